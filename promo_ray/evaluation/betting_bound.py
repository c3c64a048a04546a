"""A lower bound on the value of a policy that holds for every sample size.

A bettor starts with capital 1 and bets against "the value is at most m": each user multiplies the
capital by 1 + b (z - s m), s rows of the user, z the sum over them of

    w r - t (w q - q(pi)) - h (w - 1),

whose mean is s times the value for any t and h fixed before. b, t, h are chosen from users seen
before, b so small that no factor is negative. If the value is at most m, the capital has mean at
most 1, so it exceeds 1 / alpha with probability at most alpha (Markov); every m where it does is
ruled out. No normal approximation; only the lower end of the rewards and a ceiling on the weights
are assumed. Sources: Waudby-Smith and Ramdas 2024 (betting); Karampatziakis, Langford and Mineiro
2020 (w - 1 as a second bet); Waudby-Smith et al. 2022 (doubly robust increments).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from promo_ray.errors import DataError
from promo_ray.evaluation.off_policy_log import Rows, log_rows
from promo_ray.evaluation.policy_value import PolicyEstimate
from promo_ray.seeding import stream

Floats = NDArray[np.float64]

_N_ROUNDS = 40  # times that the bets are chosen anew
_SAFETY = 0.9  # share of the largest bet that keeps factors positive
_SHARES = (1.0, 0.7, 0.4, 0.2, 0.0)  # of the best controls: large ones force small bets
_FACTORS = (0.5, 0.7, 1.0, 1.4)


class _Users(NamedTuple):
    """Sums over the rows of each user, `(g,)`: rows, w r, w q - q(pi), w - 1, q(pi)."""

    size: Floats
    gain: Floats
    model: Floats
    weight: Floats
    mean: Floats


class _Bets(NamedTuple):
    """Controls t, h and bets b, `(g,)` each."""

    model: Floats
    weight: Floats
    size: Floats


def lower_bound(
    policy_probs: ArrayLike,
    action: ArrayLike,
    reward: ArrayLike,
    propensity: ArrayLike | None,
    x: ArrayLike | None = None,
    q_hat: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    *,
    level: float = 0.95,
    least_reward: float = 0.0,
    max_weight: float | None = None,
    seed: int = 0,
) -> PolicyEstimate:
    """Lower bound on the mean reward per row under a policy, guaranteed at any sample size.

    Args:
        policy_probs: see `policy_value`.
        action: see `policy_value`.
        reward: see `policy_value`; none may lie below `least_reward`.
        propensity: see `policy_value`.
        x: see `policy_value`.
        q_hat: see `policy_value`; it narrows the bound, any is valid.
        groups: see `policy_value`; users are taken as independent, their rows need not be.
        level: the bound lies above the value with probability at most 1 - level.
        least_reward: reward that no row can fall below.
        max_weight: ceiling on importance weights. If None: with all propensities given the
            largest possible in the log, else largest policy probability / smallest propensity
            in the log, which assumes that no arm had a smaller one.
        seed: order of the users, and folds of the model.

    Returns:
        Estimate with the bound in `low`; `high` is infinity, `value` the mean that was bet on.

    Raises:
        DataError: bad shape or value, the argument named.
    """
    if not 0 < level < 1:
        raise DataError(f"must lie in (0, 1); got {level!r}", where="level")
    rows = log_rows((policy_probs,), action, reward, propensity, x, q_hat, True, groups, seed)
    n, name, inf = len(rows.reward), "betting", float("inf")
    if rows.n_missing:
        text = f"propensities are missing in {rows.n_missing} of {n + rows.n_missing} rows"
        return PolicyEstimate(np.nan, -inf, inf, np.nan, 0.0, np.nan, name, n, text)
    if rows.reward.min() < least_reward:
        text = f"must be at least {least_reward:g} (least_reward); got {rows.reward.min():g}"
        raise DataError(text, where="reward")
    weight = rows.sides[0].weight
    ceiling = _ceiling(policy_probs, propensity, rows) if max_weight is None else max_weight
    if weight.max() > ceiling * (1 + 1e-9):
        text = f"must be at least every weight; got {ceiling:g}, a weight is {weight.max():g}"
        raise DataError(text, where="max_weight")
    log_odds = -np.log1p(-level)
    users = _users(rows, least_reward, seed)
    extremes = np.array([rows.least_model, rows.largest_model])
    bets, room = _choose_bets(users, extremes, ceiling, log_odds)
    low = _largest_refuted(users, bets, room, log_odds)
    value = float(users.gain.sum() / n) + least_reward
    ess = float(weight.sum() ** 2 / max(weight @ weight, 1e-300))
    return PolicyEstimate(value, low + least_reward, inf, np.nan, ess, float(weight.max()), name, n)


def _ceiling(policy: Any, propensity: ArrayLike | None, rows: Rows) -> float:
    chance = np.asarray(propensity, dtype=np.float64)
    probs: Any = policy if sparse.issparse(policy) else np.asarray(policy)
    if chance.ndim == 2 and probs.ndim == 2:
        dense = probs.toarray() if sparse.issparse(probs) else probs
        return float(np.max(dense / np.where(chance > 0, chance, np.inf)))
    least = float(np.nanmin(chance[chance > 0])) if chance.ndim == 2 else rows.propensity.min()
    return (1.0 if probs.ndim == 1 else float(probs.max())) / float(least)


def _users(rows: Rows, least_reward: float, seed: int) -> _Users:
    """Users in an order drawn at random, so that no trend of the log favors a bet."""
    side, n = rows.sides[0], len(rows.reward)
    columns: list[Floats] = [
        np.ones(n),
        side.weight * (rows.reward - least_reward),
        side.weight * rows.model - side.model,
        side.weight - 1.0,
        side.model,
    ]
    if rows.groups is not None:
        size = int(rows.groups.max()) + 1
        columns = [np.asarray(np.bincount(rows.groups, c, size), np.float64) for c in columns]
        is_there = columns[0] > 0  # users all of whose rows were left out
        columns = [c[is_there] for c in columns]
    order = stream(seed, "lower_bound").permutation(len(columns[0]))
    return _Users(*(c[order] for c in columns))


def _choose_bets(
    users: _Users, extremes: Floats, ceiling: float, log_odds: float
) -> tuple[_Bets, Floats]:
    """Controls and bets of each user from the users before, and how far it can fall below 0.

    The bet b for n users is the one that makes log_odds / (n b) + b v / 2 least, the distance of
    the bound when factors are near 1; v is the variance of the increments seen so far.
    """
    n = len(users.size)
    ends = np.unique(np.geomspace(max(8, n // 50), n, _N_ROUNDS).astype(np.int64))
    columns = np.column_stack([users.gain, users.weight, users.model, users.size])
    moments = np.zeros((4, 4))
    bets = _Bets(np.zeros(n), np.zeros(n), np.zeros(n))
    room = np.zeros(n)
    start = 0
    for end in ends.tolist():
        part = slice(start, end)
        if start:
            t, h, b = _round(moments, start, n, extremes, ceiling, log_odds, users)
            bets.model[part], bets.weight[part], bets.size[part] = t, h, b
            worst = ceiling * max(0.0, float((t * extremes).max()) + h) - h
            room[part] = np.maximum(0.0, users.size[part] * worst - t * users.mean[part])
        moments += columns[part].T @ columns[part]
        start = end
    return bets, room


def _round(
    moments: Floats,
    seen: int,
    n: int,
    extremes: Floats,
    ceiling: float,
    log_odds: float,
    users: _Users,
) -> tuple[float, float, float]:
    """Controls t, h and bet b for the next users, from sums of products over those seen."""
    value = moments[0, 3] / max(moments[3, 3], 1e-300)  # weighs users by their rows
    centered = np.zeros((3, 4))
    centered[:, :3] = np.eye(3)
    centered[0, 3] = -value
    matrix = centered @ moments @ centered.T
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    normal = matrix / np.outer(scale, scale)
    inverse = np.linalg.pinv(normal[1:, 1:] + 1e-6 * np.eye(2), hermitian=True)
    best_h, best_t = inverse @ normal[1:, 0] * scale[0] / scale[1:]
    mean_size, mean_model = users.size[:seen].mean(), users.mean[:seen].min(initial=0.0)
    choices = [(s * best_t, s * best_h) for s in _SHARES]
    choices += [(0.0, s * value) for s in _SHARES[:-1]] + [(s, 0.0) for s in _SHARES[:-1]]
    best = (np.inf, 0.0, 0.0, 0.0, 0.0)
    for t, h in choices:
        control = np.array([1.0, -h, -t])
        variance = float(control @ matrix @ control) / seen * (seen + 3.0) / seen
        worst = ceiling * max(0.0, float((t * extremes).max()) + h) - h - min(0.0, t * mean_model)
        limit = _SAFETY / (mean_size * max(worst + value, 1e-12))
        wish = float(np.sqrt(2.0 * log_odds / (n * variance))) if variance > 0 else limit
        bet = min(limit, wish)
        distance = log_odds / (n * bet) + bet * variance / 2.0
        if distance < best[0]:
            best = (distance, t, h, bet, limit)
    _, t, h, bet, limit = best
    seen_users = _Users(*(c[:seen] for c in users))
    gaps = seen_users.gain - t * seen_users.model - h * seen_users.weight - value * seen_users.size
    return t, h, _sharpen(bet, limit, gaps, seen_users.size, log_odds / n)


def _sharpen(bet: float, limit: float, gaps: Floats, size: Floats, need: float) -> float:
    """The bet near `bet` whose bound lies closest, by the growth of capital on users seen.

    Increments are skewed to the right, where log(1 + b z) allows larger bets than the variance.
    """
    best = (np.inf, bet)
    for factor in _FACTORS:
        b = min(limit, factor * bet)
        inner = 1.0 + b * gaps
        if inner.min() <= 0:
            continue
        distance = (need - float(np.log(inner).mean())) / float((b * size / inner).mean())
        if distance < best[0]:
            best = (distance, b)
    return best[1]


def _largest_refuted(users: _Users, bets: _Bets, room: Floats, log_odds: float) -> float:
    """Largest m at which the capital has reached 1 / alpha; it falls as m grows."""
    increments = users.gain - bets.model * users.model - bets.weight * users.weight

    def log_capital(m: float) -> float:
        limit = _SAFETY / np.maximum(room + users.size * m, 1e-300)
        return float(np.log1p(np.minimum(bets.size, limit) * (increments - users.size * m)).sum())

    low, high = 0.0, max(0.0, float(users.gain.sum() / users.size.sum()))
    if log_capital(low) < log_odds:
        return 0.0
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if log_capital(middle) >= log_odds else (low, middle)
    return low
