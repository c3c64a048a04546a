"""A lower bound on the value of a policy that holds for every sample size.

A bettor starts with capital 1 and bets against "the value is at most m": each user multiplies the
capital by 1 + b (z - s m), s rows of the user, z the sum over them of

    w r - t (w q - q(pi)) - h (w - 1),

whose mean is s times the value for any t, h and q fixed before. b, t, h are chosen from users seen
before; t and h are made smaller for a user whose weights could be so large (by the policy's
probabilities, not by the arm taken) that a factor could turn negative. If the value is at most m,
the capital is a nonnegative supermartingale, so it ever reaches 1 / alpha with probability at most
alpha (Ville); every m where it does so after any of the last users is ruled out. No normal
approximation; only the lower end of the rewards and a ceiling on the weights are assumed. Sources:
Waudby-Smith and Ramdas 2024 (betting); Karampatziakis, Langford and Mineiro 2020 (w - 1 as a
second bet); Waudby-Smith et al. 2022 (doubly robust increments).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from promo_ray.errors import ConfigError, DataError
from promo_ray.evaluation.checks import check_level
from promo_ray.evaluation.off_policy_estimators import plan_for
from promo_ray.evaluation.off_policy_interval import lost_overlap
from promo_ray.evaluation.off_policy_log import Rows, log_rows, rows_moments, user_order
from promo_ray.evaluation.policy_value import PolicyEstimate

Floats = NDArray[np.float64]

_KIND = "lower end only, guaranteed at any sample size"
_N_ROUNDS = 40  # times that the bets are chosen anew
_SAFETY = 0.9  # share of the largest bet that keeps factors positive
_SHARES = (1.0, 0.7, 0.4, 0.2, 0.0)  # of the best controls: large ones force small bets
_FACTORS = (0.4, 0.6, 0.8, 1.0, 1.25, 1.6)  # of the bet that is best for small bets
_N_TRIED = 20_000  # users seen last, on whom bets are tried
_LAST = 0.1  # share of the users after each of whom the capital counts: more spends more of alpha


class _Users(NamedTuple):
    """Of each user, `(g,)`: rows; sums of w r, w q - q(pi), w - 1, q(pi), largest w; range of q."""

    size: Floats
    gain: Floats
    model: Floats
    weight: Floats
    mean: Floats
    reach: Floats
    least: Floats
    largest: Floats

    def part(self, rows: slice) -> _Users:
        return _Users(*(c[rows] for c in self))

    def room(self, t: float, h: float) -> Floats:
        """How far t (w q - q(pi)) + h (w - 1) can lie above 0."""
        worst = np.maximum(0.0, np.maximum(t * self.least, t * self.largest) + h)
        return np.maximum(0.0, self.reach * worst - h * self.size - t * self.mean)


class _Bets(NamedTuple):
    """Of each user, `(g,)`: t (w q - q(pi)) + h (w - 1), how far it can lie above 0, and b."""

    control: Floats
    room: Floats
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

    The guarantee needs a model that does not know what comes: a `q_hat` of models that saw none of
    these users (zeros are one). The model that is fitted here without `q_hat` is one: it predicts
    each user from users before it in the order of bets, zeros for the first 1/64 of them, then
    anew whenever their number has doubled.

    Args:
        policy_probs: see `policy_value`.
        action: see `policy_value`.
        reward: see `policy_value`; none may lie below `least_reward`.
        propensity: see `policy_value`.
        x: see `policy_value`; features of the model that is fitted here.
        q_hat: see `policy_value`; it narrows the bound. The guarantee needs models that saw none
            of these users; any such model is valid, however wrong.
        groups: see `policy_value`; users are taken as independent, their rows need not be.
        level: the bound lies above the value with probability at most 1 - level.
        least_reward: reward that no row can fall below.
        max_weight: ceiling on importance weights. If None: with all propensities given the
            largest possible in the row, else largest policy probability of the row / smallest
            propensity in the log, which assumes that no arm had a smaller one.
        seed: order of the users.

    Returns:
        Estimate with the bound in `low`; `high` is infinity, `value` the mean that was bet on.

    Raises:
        ConfigError: a level outside (0, 1), or a least reward that is not finite.
        DataError: bad shape or value, the argument named.
    """
    check_level(level)
    if not np.isfinite(least_reward):
        raise ConfigError(f"least_reward must be finite; got {least_reward!r}")
    if max_weight is not None and not max_weight >= 0:
        raise DataError(f"must be >= 0; got {max_weight!r}", where="max_weight")
    rows = log_rows(
        (policy_probs,), action, reward, propensity, x, q_hat, True, groups, seed,
        is_sequential=True,
    )  # fmt: skip
    n, name, inf = len(rows.reward), "betting", float("inf")
    text = lost_overlap(rows_moments(plan_for("ips", 1), rows))
    if text:
        n_users = n if rows.groups is None else len(np.unique(rows.groups))
        return PolicyEstimate(
            np.nan, -inf, inf, np.nan, 0.0, np.nan, name, n, text, n_users, level, _KIND
        )
    if rows.reward.min() < least_reward:
        text = f"must be at least {least_reward:g} (least_reward); got {rows.reward.min():g}"
        raise DataError(text, where="reward")
    weight = rows.sides[0].weight
    ceiling = _ceiling(policy_probs, propensity, rows) if max_weight is None else max_weight
    if max_weight is not None and weight.max() > max_weight * (1 + 1e-9):
        text = f"must be at least every weight; got {max_weight:g}, a weight is {weight.max():g}"
        raise DataError(text, where="max_weight")
    users = _users(rows, np.broadcast_to(ceiling, n), least_reward, seed)
    log_odds = -float(np.log1p(-level))
    bets = _choose_bets(users, log_odds)
    low = _largest_refuted(users, bets, log_odds)
    value = float(users.gain.sum() / n) + least_reward
    ess = float(weight.sum() ** 2 / max(weight @ weight, 1e-300))
    return PolicyEstimate(
        value, low + least_reward, inf, np.nan, ess, float(weight.max()), name, n, "",
        len(users.size), level, _KIND,
    )  # fmt: skip


def _ceiling(policy: Any, propensity: ArrayLike | None, rows: Rows) -> Floats:
    """`(n,)` largest weight that any arm could have had in the row."""
    chance = np.asarray(propensity, dtype=np.float64)
    if chance.ndim == 2 and sparse.issparse(policy):
        inverse = np.where(chance > 0, 1.0 / np.where(chance > 0, chance, 1.0), 0.0)
        found: Any = sparse.csr_array(policy).multiply(inverse).max(axis=1).toarray()
        return np.asarray(found, np.float64).ravel()
    probs: Any = policy if sparse.issparse(policy) else np.asarray(policy)
    if probs.ndim == 1:
        arm = np.arange(len(probs)), probs.astype(np.int64)
        return 1.0 / (chance[arm] if chance.ndim == 2 else np.full(len(probs), chance.min()))
    if chance.ndim == 2:
        return np.asarray((probs / np.where(chance > 0, chance, np.inf)).max(axis=1))
    largest: Any = probs.max(axis=1)
    largest = largest.toarray() if sparse.issparse(largest) else largest
    return np.asarray(largest, np.float64).ravel() / float(rows.propensity.min())


def _users(rows: Rows, ceiling: Floats, least_reward: float, seed: int) -> _Users:
    """Users in the order in which they are bet on."""
    side, n = rows.sides[0], len(rows.reward)
    columns: list[Floats] = [
        np.ones(n),
        side.weight * (rows.reward - least_reward),
        side.weight * rows.model - side.model,
        side.weight - 1.0,
        side.model,
        ceiling,
    ]
    least, largest = rows.least_model, rows.largest_model
    if rows.groups is not None:
        size = int(rows.groups.max()) + 1
        columns = [np.asarray(np.bincount(rows.groups, c, size), np.float64) for c in columns]
        least, largest = np.full(size, np.inf), np.full(size, -np.inf)
        np.minimum.at(least, rows.groups, rows.least_model)
        np.maximum.at(largest, rows.groups, rows.largest_model)
    columns += [least, largest]
    order = user_order(len(least), seed)
    return _Users(*(c[order] for c in columns))


def _choose_bets(users: _Users, log_odds: float) -> _Bets:
    """Controls and bet of each user, from the users before."""
    n = len(users.size)
    ends = np.unique(np.geomspace(max(8, n // 100), n, _N_ROUNDS).astype(np.int64))
    columns = np.column_stack([users.gain, users.weight, users.model, users.size])
    moments = np.zeros((4, 4))
    bets = _Bets(np.zeros(n), np.zeros(n), np.zeros(n))
    start = 0
    for end in ends.tolist():
        part = slice(start, end)
        if start:
            seen = users.part(slice(max(0, start - _N_TRIED), start))
            t, h, b, value = _round(moments, start, n, seen, log_odds)
            bets.control[part], bets.room[part] = _controls(users.part(part), t, h, b, value)
            bets.size[part] = b
        moments += columns[part].T @ columns[part]
        start = end
    return bets


def _controls(users: _Users, t: float, h: float, b: float, value: float) -> tuple[Floats, Floats]:
    """Controls of users and their room, made smaller where the bet b leaves less room."""
    room = users.room(t, h)
    left = np.maximum(0.0, _SAFETY / b - users.size * value)
    share = left / np.maximum(np.maximum(room, left), 1e-300)
    return share * (t * users.model + h * users.weight), share * room


def _round(
    moments: Floats, n_seen: int, n: int, seen: _Users, log_odds: float
) -> tuple[float, float, float, float]:
    """Controls t, h, bet b for the next users, and the value, from those seen.

    Small bets are best at sqrt(2 log_odds / (n variance)); around it, the bet is the one under
    which the bound would lie closest if all users were like those seen last. Increments are skewed
    to the right, where log(1 + b z) allows larger bets than the variance.
    """
    value = moments[0, 3] / max(moments[3, 3], 1e-300)  # weighs users by their rows
    centered = np.zeros((3, 4))
    centered[:, :3] = np.eye(3)
    centered[0, 3] = -value
    matrix = centered @ moments @ centered.T
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    normal = matrix / np.outer(scale, scale)
    inverse = np.linalg.pinv(normal[1:, 1:] + 1e-6 * np.eye(2), hermitian=True)
    best_h, best_t = inverse @ normal[1:, 0] * scale[0] / scale[1:]
    choices = [(s * best_t, s * best_h) for s in _SHARES]
    choices += [(0.0, s * value) for s in _SHARES[:-1]] + [(s, 0.0) for s in _SHARES[:-1]]
    best = (np.inf, 0.0, 0.0, 1e-12)
    for t, h in choices:
        control = np.array([1.0, -h, -t])
        variance = float(control @ matrix @ control) / n_seen * (n_seen + 3.0) / n_seen
        if variance <= 0:
            continue
        b = float(np.sqrt(2.0 * log_odds / (n * variance)))
        for factor in _FACTORS[1::2]:
            distance = _distance(seen, t, h, factor * b, value, log_odds / n, False)
            best = min(best, (distance, t, h, b))
    _, t, h, b = best
    tried = [
        (_distance(seen, t, h, factor * b, value, log_odds / n, True), factor * b)
        for factor in _FACTORS
    ]
    return t, h, min(tried)[1], value


def _distance(
    seen: _Users,
    t: float,
    h: float,
    b: float,
    value: float,
    need: float,
    is_exact: bool,
) -> float:
    """How far below the value the bound would lie if all users were like those seen."""
    own, _ = _controls(seen, t, h, b, value)
    gaps = seen.gain - own - value * seen.size
    if not is_exact:
        return need / b + b * float(gaps @ gaps) / len(gaps) / 2.0
    inner = 1.0 + b * gaps
    if inner.min() <= 0:
        return float("inf")
    return (need - float(np.log(inner).mean())) / float((b * seen.size / inner).mean())


def _largest_refuted(users: _Users, bets: _Bets, log_odds: float) -> float:
    """Largest m at which the capital reached 1 / alpha after any of the last users.

    The capital falls as m grows, after each of them.
    """
    increments = users.gain - bets.control
    first = int((1.0 - _LAST) * len(increments))

    def log_capital(m: float) -> float:
        limit = _SAFETY / np.maximum(bets.room + users.size * m, 1e-300)
        gains = np.minimum(bets.size, limit) * (increments - users.size * m)
        return float(np.log1p(gains).cumsum()[first:].max())

    low, high = 0.0, max(0.0, float(users.gain.sum() / users.size.sum()))
    if log_capital(low) < log_odds:
        return 0.0
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if log_capital(middle) >= log_odds else (low, middle)
    return low
