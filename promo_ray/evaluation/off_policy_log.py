"""Rows of a log, checked, turned into moments chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from promo_ray.errors import DataError
from promo_ray.evaluation.off_policy_estimators import WITHOUT_MODEL, plan_for
from promo_ray.evaluation.off_policy_moments import Moments, Plan, Side, moments_of
from promo_ray.response.inputs import arms, finite_matrix, finite_vector, group_codes
from promo_ray.response.nuisance import arm_outcomes, fold_mean
from promo_ray.response.trial import folds_of
from promo_ray.seeding import stream

Floats = NDArray[np.float64]

_CHUNK_CELLS = 1 << 17  # cells of a policy looked at together: they stay in cache
_N_FOLDS = 5
_LEAST_MASS = 1e-6  # of a policy on arms out of reach; less is rounding
_PRIOR_ROWS = 10.0  # rows by which the mean of an arm is drawn to that of all arms
# shares of the users after which a model is fitted anew
_STARTS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)


class _Model(NamedTuple):
    """Predicted rewards: row i has those of `table[place[i]]`."""

    table: NDArray[np.floating[Any]]
    place: NDArray[np.int64] | None

    def rows(self, chunk: slice) -> NDArray[np.floating[Any]]:
        return self.table[chunk] if self.place is None else self.table[self.place[chunk]]


class Rows(NamedTuple):
    """Rows of a log whose propensity is known, checked.

    Attributes:
        reward: `(n,)` float64.
        model: `(n,)` float64 predicted reward of the arm taken; zeros without a model.
        sides: one per policy.
        propensity: `(n,)` float64 of the arm taken.
        groups: `(n,)` int64 numbers of users; None if every row is one.
        n_missing: rows left out because their propensity is not known.
        n_unreached: rows in which a policy chooses arms that the log could not give.
        least_model: `(n,)` float64 smallest predicted reward of any arm; zeros without a model or
            if the rows are not sequential.
        largest_model: `(n,)` the largest.
    """

    reward: Floats
    model: Floats
    sides: tuple[Side, ...]
    propensity: Floats
    groups: NDArray[np.int64] | None
    n_missing: int
    n_unreached: int
    least_model: Floats
    largest_model: Floats


def log_moments(
    policies: Sequence[Any],
    action: ArrayLike,
    reward: ArrayLike,
    propensity: ArrayLike | None,
    x: ArrayLike | None = None,
    q_hat: ArrayLike | None = None,
    method: str = "auto",
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Moments:
    """Moments of a log for one method; arguments as in `policy_value`.

    Raises:
        ConfigError: unknown method.
        DataError: bad shape or value, the argument named.
    """
    plan = plan_for(method, len(policies))
    has_model = method not in WITHOUT_MODEL
    rows = log_rows(policies, action, reward, propensity, x, q_hat, has_model, groups, seed)
    return rows_moments(plan, rows)


def rows_moments(plan: Plan, rows: Rows) -> Moments:
    """Moments of checked rows."""
    return moments_of(
        plan, rows.reward, rows.model, rows.sides, rows.groups, rows.n_missing, rows.n_unreached
    )


def log_rows(
    policies: Sequence[Any],
    action: ArrayLike,
    reward: ArrayLike,
    propensity: ArrayLike | None,
    x: ArrayLike | None,
    q_hat: ArrayLike | None,
    has_model: bool,
    groups: ArrayLike | None,
    seed: int,
    *,
    is_sequential: bool = False,
) -> Rows:
    """Checked rows; arguments as in `policy_value`, `has_model` False leaves `q_hat` out.

    A model that is fitted here predicts each user from other folds, or, if `is_sequential`, from
    users before it in the order of `user_order`; the first ones then get zeros.

    Raises:
        DataError: bad shape or value, the argument named.
    """
    rewards = finite_vector(reward, "reward")
    n = len(rewards)
    if n < 2:
        raise DataError(f"must have at least 2 rows; got {n}", where="reward")
    names = ("policy_probs", "other_probs")
    checked = [_policy(p, name, n) for p, name in zip(policies, names, strict=False)]
    n_arms = _count_arms(checked, names, action)
    taken = arms(action, "action", n, n_arms=n_arms)
    chance = _propensities(propensity, taken, n_arms)
    codes = None if groups is None else group_codes(groups, n)
    model = None
    if has_model:
        model = _model(x, q_hat, taken, rewards, codes, n_arms, seed, is_sequential)
    is_known = np.isfinite(chance)
    sides, own, least, largest = _sides(
        checked, names, taken, np.where(is_known, chance, 1.0), model, n_arms, is_sequential
    )
    n_missing = n - int(is_known.sum())
    if n_missing:
        rewards, own, chance, least, largest = (
            column[is_known] for column in (rewards, own, chance, least, largest)
        )
        sides = tuple(Side(s.weight[is_known], s.model[is_known]) for s in sides)
        codes = None if codes is None else codes[is_known]
    n_unreached = _count_unreached(checked, propensity)
    return Rows(rewards, own, sides, chance, codes, n_missing, n_unreached, least, largest)


def _policy(policy: Any, name: str, n: int) -> Any:
    """Sparse rows, a matrix of floats, or a vector of arms."""
    if sparse.issparse(policy):
        rows = sparse.csr_array(policy)
    else:
        rows = np.asarray(policy)
        if rows.dtype.kind not in "fiub":
            raise DataError("must be numbers", where=name)
    if rows.ndim not in (1, 2):
        raise DataError(f"must have one or two dimensions; got {rows.ndim}", where=name)
    if rows.shape[0] != n:
        raise DataError(f"must have {n} rows; got {rows.shape[0]}", where=name)
    return rows


def _count_arms(policies: Sequence[Any], names: Sequence[str], action: ArrayLike) -> int:
    widths = {p.shape[1] for p in policies if p.ndim == 2}
    if len(widths) > 1:
        raise DataError(f"must have as many columns as {names[0]}; got {widths}", where=names[1])
    if widths:
        return int(widths.pop())
    taken = finite_vector(action, "action", policies[0].shape[0])
    largest = max([float(taken.max()), *(float(p.max()) for p in policies)])
    if not 0 <= largest < 2**31:
        raise DataError("must hold whole numbers from 0 (control) up", where="action")
    return 1 + int(largest)


def _propensities(values: ArrayLike | None, taken: NDArray[np.int64], n_arms: int) -> Floats:
    """`(n,)` probability of the arm taken, NaN where it is not known."""
    n = len(taken)
    if values is None:
        return np.full(n, np.nan)
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"must be numbers ({error})", where="propensity") from error
    if array.ndim == 2:
        if array.shape != (n, n_arms):
            raise DataError(f"must be ({n}, {n_arms}); got {array.shape}", where="propensity")
        if not np.allclose(array.sum(axis=1), 1.0, atol=1e-6, equal_nan=True):
            raise DataError("rows must sum to 1", where="propensity")
        array = array[np.arange(n), taken]
    if array.shape != (n,):
        raise DataError(f"must have {n} rows; got {array.shape}", where="propensity")
    bad = np.flatnonzero((array <= 0) | (array > 1))
    if len(bad):
        text = f"must lie in (0, 1]; got {array[bad[0]]:g} in row {bad[0]}"
        raise DataError(text, where="propensity")
    return array


def _count_unreached(policies: Sequence[Any], propensity: ArrayLike | None) -> int:
    """Rows in which a policy chooses arms of chance 0; 0 if only those of taken arms are known."""
    is_out = np.asarray(propensity, dtype=np.float64) == 0
    if is_out.ndim != 2 or not is_out.any():
        return 0
    found = np.zeros(len(is_out), bool)
    for policy in policies:
        if policy.ndim == 1:
            found |= is_out[np.arange(len(is_out)), policy.astype(np.int64)]
        else:
            lost: Any = policy.multiply(is_out) if sparse.issparse(policy) else policy * is_out
            found |= np.asarray(lost.sum(axis=1)).ravel() > _LEAST_MASS
    return int(found.sum())


def user_order(n_users: int, seed: int) -> NDArray[np.int64]:
    """Users in an order drawn at random, so that no trend of the log favors a bet."""
    return stream(seed, "lower_bound").permutation(n_users)


def _model(
    x: ArrayLike | None,
    q_hat: ArrayLike | None,
    taken: NDArray[np.int64],
    rewards: Floats,
    codes: NDArray[np.int64] | None,
    n_arms: int,
    seed: int,
    is_sequential: bool,
) -> _Model:
    n = len(rewards)
    if q_hat is not None:
        q = np.asarray(q_hat)
        if q.dtype.kind not in "fiub" or q.shape != (n, n_arms):
            raise DataError(f"must be ({n}, {n_arms}) numbers; got {q.shape}", where="q_hat")
        return _Model(q, None)
    users = np.arange(n) if codes is None else codes
    features = None if x is None else finite_matrix(x, "x", n)
    if is_sequential:
        part = _parts(users, seed)
        if features is None:
            return _means_of_arms(taken, rewards, part, n_arms, len(_STARTS) + 1, True)
        return _Model(_learned_before(features, taken, rewards, part, n_arms), None)
    if features is not None:
        return _Model(arm_outcomes(features, taken, rewards, users, n_arms, seed=seed), None)
    folds = folds_of(users, n, _N_FOLDS, seed)
    return _means_of_arms(taken, rewards, folds, n_arms, _N_FOLDS, False)


def _parts(users: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Part of the order that the user of each row is in: `_STARTS` divide it."""
    n_users = int(users.max()) + 1
    place = np.empty(n_users, dtype=np.int64)
    place[user_order(n_users, seed)] = np.arange(n_users)
    return np.searchsorted(np.array(_STARTS) * n_users, place, side="right")[users]


def _means_of_arms(
    taken: NDArray[np.int64],
    rewards: Floats,
    part: NDArray[np.int64],
    n_arms: int,
    n_parts: int,
    is_sequential: bool,
) -> _Model:
    """Mean reward of each arm in the other parts or, if sequential, the parts before."""
    place = part * n_arms + taken
    count = np.bincount(place, minlength=n_parts * n_arms).reshape(n_parts, n_arms)
    total = np.bincount(place, weights=rewards, minlength=n_parts * n_arms).reshape(count.shape)
    if is_sequential:
        count, total = (np.vstack([0 * c[:1], c.cumsum(axis=0)[:-1]]) for c in (count, total))
    else:
        count, total = count.sum(axis=0) - count, total.sum(axis=0) - total
    mean = total.sum(axis=1, keepdims=True) / np.maximum(1, count.sum(axis=1, keepdims=True))
    return _Model((total + _PRIOR_ROWS * mean) / (count + _PRIOR_ROWS), part)


def _learned_before(
    x: Floats, taken: NDArray[np.int64], rewards: Floats, part: NDArray[np.int64], n_arms: int
) -> Floats:
    """`(n, n_arms)` mean reward of each arm by models of the parts before; zeros in the first."""
    found = np.zeros((len(rewards), n_arms))
    for k in range(1, len(_STARTS) + 1):
        own, seen = part == k, part < k
        if own.any() and seen.any():
            weight = np.ones(int(seen.sum()))
            model = fold_mean(x[seen], taken[seen], rewards[seen], weight, n_arms)
            count = np.bincount(taken[seen], minlength=n_arms)
            shifts = model.shifts * count / (count + _PRIOR_ROWS)
            found[own] = model.model.predict(x[own])[:, None] + shifts
    return found


def _sides(
    policies: Sequence[Any],
    names: Sequence[str],
    taken: NDArray[np.int64],
    chance: Floats,
    model: _Model | None,
    n_arms: int,
    needs_range: bool,
) -> tuple[tuple[Side, ...], Floats, Floats, Floats]:
    """Weights and model values of each policy; predictions: of the arm taken, least, largest."""
    n = len(taken)
    sides = tuple(Side(np.empty(n), np.zeros(n)) for _ in policies)
    own, least, largest = np.zeros((3, n))
    step = max(1, _CHUNK_CELLS // n_arms)
    for start in range(0, n, step):
        chunk = slice(start, min(n, start + step))
        arm = taken[chunk]
        rows = np.arange(len(arm))
        q = None if model is None else model.rows(chunk)
        if q is not None:
            if not (np.isfinite(q.min()) and np.isfinite(q.max())):
                raise DataError("must be finite", where="q_hat")
            if needs_range:
                least[chunk], largest[chunk] = q.min(axis=1), q.max(axis=1)
            own[chunk] = q[rows, arm]
        for policy, name, side in zip(policies, names, sides, strict=False):
            probs, mean = _chunk(policy, chunk, name, start, arm, q, n_arms)
            side.weight[chunk] = probs / chance[chunk]
            side.model[chunk] = mean
    return sides, own, least, largest


def _chunk(
    policy: Any,
    chunk: slice,
    name: str,
    start: int,
    arm: NDArray[np.int64],
    q: NDArray[np.floating[Any]] | None,
    n_arms: int,
) -> tuple[Any, Any]:
    """Probability of the arm taken and mean prediction, of the rows of a chunk."""
    rows = np.arange(len(arm))
    if policy.ndim == 1:
        chosen = arms(policy[chunk], name, len(arm), n_arms=n_arms)
        return chosen == arm, 0.0 if q is None else q[rows, chosen]
    probs = policy[chunk]
    if sparse.issparse(probs):
        least = probs.data.min(initial=0.0)
        total = np.asarray(probs.sum(axis=1)).ravel()
        own = np.asarray(probs[rows, arm]).ravel()
        mean = 0.0 if q is None else np.asarray(probs.multiply(q).sum(axis=1)).ravel()
    else:
        least, total, own = probs.min(), probs @ np.ones(n_arms, probs.dtype), probs[rows, arm]
        mean = 0.0 if q is None else np.einsum("ij,ij->i", probs, q)
    if not least >= 0 or not (np.abs(total - 1.0) <= 1e-5).all():
        wrong = np.flatnonzero(~(np.abs(total - 1.0) <= 1e-5))
        hint = f"; row {start + int(wrong[0])} sums to {total[wrong[0]]:g}" if len(wrong) else ""
        raise DataError(f"rows must be >= 0 and sum to 1{hint}", where=name)
    return own, mean
