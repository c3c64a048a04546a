"""Sums over a log from which every off-policy estimate and its interval follow.

Per user, the sums of a few columns over the user's rows; over users, their first, second and
third moments. All estimators are smooth functions of first moments, and the variance and skewness
of their influence are quadratic and cubic forms of the rest, so one pass over a log is enough,
blocks merge by addition, and memory does not grow with the log.

Columns, for policies p = 0 (and 1 in a comparison): 1, r, then w, w r, w q, q(pi) of each policy;
then for each cut c of `CUTS` the cut weight u = u_c(w), u r, and u q if a model is used. Here w
is the importance weight of the arm taken, q its predicted reward, q(pi) the mean prediction under
the policy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import DataError

Floats = NDArray[np.float64]

CUTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)  # weights mean 1
KINDS = ("clip", "switch", "shrink")
_CHUNK_CELLS = 1 << 16  # cells of columns looked at together: they stay in cache
_N_SHARED = 2  # columns 1 and r
_N_POLICY = 4  # columns w, w r, w q, q(pi)


class Plan(NamedTuple):
    """Which columns are kept.

    Attributes:
        n_policies: 1, or 2 for a comparison.
        kind: how weights are cut, one of `KINDS`; "" if nothing is cut.
        has_model: whether cut columns include u q.
    """

    n_policies: int
    kind: str
    has_model: bool

    @property
    def n_base(self) -> int:
        """Columns whose third moments are kept."""
        return _N_SHARED + _N_POLICY * self.n_policies

    @property
    def n_columns(self) -> int:
        """All columns."""
        return self.n_base + (self._n_cut * len(CUTS) * self.n_policies if self.kind else 0)

    @property
    def _n_cut(self) -> int:
        return 3 if self.has_model else 2

    def base(self, policy: int) -> int:
        """First column of a policy."""
        return _N_SHARED + _N_POLICY * policy

    def cut(self, policy: int, k: int) -> int:
        """Column of the weight under cut k; the next are u r and, with a model, u q."""
        return self.n_base + self._n_cut * (len(CUTS) * policy + k)


class Moments(NamedTuple):
    """Sums over users; those of logs without common users merge by `merge_moments`.

    Attributes:
        plan: the columns.
        n: rows.
        n_groups: users.
        total: `(d,)` sums of the columns.
        second: `(d, d)` sums over users of products of two columns' totals.
        third: `(b, b, b)` sums of products of three, base columns only.
        rewards: `(3,)` sums over rows of r, r^2, r^3.
        weights: `(3, 4)` sums over rows of |v|, v^2, v^3, v^4 of the first policy's weight, of the
            second's (1 if there is none: the policy of the log), and of their difference.
        largest: `(3,)` largest absolute value of the same.
        by_user: `(3,)` sums over users of the squared sum of |v| over the user's rows.
        n_missing: rows left out because their propensity is not known.
        n_unreached: rows in which a policy chooses arms that the log could not give.
    """

    plan: Plan
    n: int
    n_groups: int
    total: Floats
    second: Floats
    third: Floats
    rewards: Floats
    weights: Floats
    largest: Floats
    by_user: Floats
    n_missing: int
    n_unreached: int


def merge_moments(one: Moments, two: Moments) -> Moments:
    """Moments of both logs together; they must have no user in common.

    Raises:
        DataError: the columns differ.
    """
    if one.plan != two.plan:
        raise DataError(f"must be of one plan; got {one.plan} and {two.plan}", where="moments")
    return Moments(
        one.plan,
        one.n + two.n,
        one.n_groups + two.n_groups,
        one.total + two.total,
        one.second + two.second,
        one.third + two.third,
        one.rewards + two.rewards,
        one.weights + two.weights,
        np.maximum(one.largest, two.largest),
        one.by_user + two.by_user,
        one.n_missing + two.n_missing,
        one.n_unreached + two.n_unreached,
    )


class Side(NamedTuple):
    """What a policy does on the rows of a log: `(n,)` weights w, and q(pi)."""

    weight: Floats
    model: Floats


def cut_weights(weight: Floats, cut: float, kind: str) -> Floats:
    """Weights made smaller: clip min(w, c); switch w 1{w <= c}; shrink w c'/(w^2 + c'), c' = 4 c^2.

    Sources: Ionides 2008; Wang, Agarwal and Dudik 2017; Su et al. 2020 (the last has its maximum,
    c, at w = 2 c).
    """
    if kind == "clip":
        return np.minimum(weight, cut)
    if kind == "switch":
        return np.where(weight <= cut, weight, 0.0)
    scale = 4.0 * cut * cut
    return weight * (scale / (weight * weight + scale))


def moments_of(
    plan: Plan,
    reward: Floats,
    model: Floats,
    sides: tuple[Side, ...],
    groups: NDArray[np.int64] | None,
    n_missing: int = 0,
    n_unreached: int = 0,
) -> Moments:
    """Moments of rows in memory.

    Args:
        plan: which columns.
        reward: `(n,)` float64.
        model: `(n,)` float64 predicted reward of the arm taken; zeros without a model.
        sides: one per policy.
        groups: `(n,)` int64 dense user numbers; None if every row is a user.
        n_missing: rows left out before.
        n_unreached: see `Moments`.
    """
    n = len(reward)
    first = sides[0].weight
    second = sides[1].weight if len(sides) > 1 else np.ones(n)
    compared = (first, second, first - second)
    powers = [[float(np.abs(v).sum()), *_power_sums(v)] for v in compared]
    return Moments(
        plan,
        n,
        *_user_sums(plan, reward, model, sides, groups),
        np.array([reward.sum(), *_power_sums(reward)[:2]]),
        np.array(powers),
        np.array([float(np.abs(v).max(initial=0.0)) for v in compared]),
        np.array([_user_squares(v, groups) for v in compared]),
        n_missing,
        n_unreached,
    )


def _columns(plan: Plan, reward: Floats, model: Floats, sides: list[Side]) -> Floats:
    """`(n_columns, n)`, one row of memory per column."""
    columns = np.empty((plan.n_columns, len(reward)))
    columns[0] = 1.0
    columns[1] = reward
    for p, side in enumerate(sides):
        at = plan.base(p)
        columns[at] = side.weight
        np.multiply(side.weight, reward, out=columns[at + 1])
        np.multiply(side.weight, model, out=columns[at + 2])
        columns[at + 3] = side.model
        for k, cut in enumerate(CUTS if plan.kind else ()):
            at = plan.cut(p, k)
            columns[at] = cut_weights(side.weight, cut, plan.kind)
            np.multiply(columns[at], reward, out=columns[at + 1])
            if plan.has_model:
                np.multiply(columns[at], model, out=columns[at + 2])
    return columns


def _user_sums(
    plan: Plan,
    reward: Floats,
    model: Floats,
    sides: tuple[Side, ...],
    groups: NDArray[np.int64] | None,
) -> tuple[int, Floats, Floats, Floats]:
    """Number of users, and moments of the columns summed by user, chunk by chunk."""
    n, n_base = len(reward), plan.n_base
    order, starts = None, np.arange(n)
    if groups is not None and n:
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    one, two = np.triu_indices(n_base)
    total, second = np.zeros(plan.n_columns), np.zeros((plan.n_columns, plan.n_columns))
    products = np.zeros((len(one), n_base))
    ends = np.append(starts, n)
    step = max(64, _CHUNK_CELLS // plan.n_columns)
    at = 0
    while at < len(starts):
        last = max(at + 1, int(np.searchsorted(ends, ends[at] + step, side="right")) - 1)
        rows: Any = slice(ends[at], ends[last])
        own = starts[at:last] - ends[at]
        if order is not None:
            rows = order[rows]
        parts = [Side(s.weight[rows], s.model[rows]) for s in sides]
        columns = _columns(plan, reward[rows], model[rows], parts)
        if columns.shape[1] > len(own):
            columns = np.add.reduceat(columns, own, axis=1)
        total += columns.sum(axis=1)
        second += columns @ columns.T
        base = columns[:n_base]
        products += (base[one] * base[two]) @ base.T
        at = last
    third = np.empty((n_base, n_base, n_base))
    third[one, two] = third[two, one] = products
    return len(starts), total, second, third


def _user_squares(v: Floats, groups: NDArray[np.int64] | None) -> float:
    """Sum over users of the squared sum of |v|."""
    sizes = np.abs(v) if groups is None else np.bincount(groups, weights=np.abs(v))
    return float(sizes @ sizes)


def _power_sums(v: Floats) -> tuple[float, float, float]:
    """Sums of v^2, v^3, v^4."""
    squares = v * v
    return float(squares.sum()), float(squares @ v), float(squares @ squares)
