"""One pass over a block of users at given prices: bound, use, curvature, near-tied users.

Letters: n users, m slots, q most offers of a user, K budgets, R rows, lam `(R,)` prices, s scores =
value - lam . use, plus the price of the floor of the user's segment, once. A floor row has use -1
per served user and right-hand side -floor, so that every row reads use <= right-hand side.

Sums are integers in units that the caller fixes (`Units`): they are the same for every order of
users and every split into blocks.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.allocation.native import CSums, CUsers, address, library
from promo_ray.allocation.problem import Block, Rows
from promo_ray.errors import PromoRayError
from promo_ray.seeding import derive

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BITS = 50


class Where(NamedTuple):
    """What a pass needs besides the block: rows, seed, and the size of ties in currency."""

    rows: Rows
    seed: int
    tie: float


class Users:
    """A block as the compiled kernel sees it; keeps the arrays alive."""

    def __init__(self, block: Block, where: Where, weight: Floats | None = None) -> None:
        rows, limits = where.rows, where.rows.limits
        n, m = block.value.shape
        costs = block.costs
        if rows.n_budgets and n and (costs.strides[1:] != (4 * m, 4) or costs.strides[0] % 4):
            costs = np.ascontiguousarray(costs)
        tree = None
        if not limits.is_single:
            n_ids = m if block.offer_idx is None else int(block.offer_idx.max(initial=-1)) + 1
            tree = [np.array(x, dtype=np.int32) for x in (limits.limit, limits.parent)]
            tree.append(limits.nodes(max(rows.n_offers, n_ids)))
        most = None if rows.most is None else np.array(rows.most, dtype=np.float64)
        value = np.ascontiguousarray(block.value, dtype=np.float32)
        self._kept = [value, costs, block, tree, most, weight]
        self.n, self.m, self.rows = n, m, rows
        self.struct = CUsers(
            n=n,
            cost_stride=costs.strides[0] // 4 if len(costs) else 0,
            m=m,
            k=rows.n_budgets,
            n_offers=rows.n_offers,
            n_segments=rows.n_segments,
            q=limits.max_offers,
            n_groups=0 if tree is None else len(limits.limit),
            value=address(value),
            costs=address(costs),
            amount=self._array(block.capacity_use, np.float32),
            offer=self._array(block.offer_idx, np.int32),
            segment=self._array(block.segment_idx, np.int32),
            keys=self._array(block.keys, np.uint64),
            first=block.first,
            seed=derive(where.seed, "allocation"),
            weight=address(weight),
            most=address(most),
            group_limit=None if tree is None else address(tree[0]),
            group_parent=None if tree is None else address(tree[1]),
            group_of_offer=None if tree is None else address(tree[2]),
            tie=where.tie,
            value_factor=rows.value_factor,
        )

    def _array(self, array: NDArray[Any] | None, dtype: Any) -> int | None:
        if array is None:
            return None
        whole = np.ascontiguousarray(array, dtype=dtype)
        self._kept.append(whole)
        return address(whole)


class Units(NamedTuple):
    """Units of the integer sums: powers of two above every contribution of one user.

    Attributes:
        value: for values and scores, currency.
        use: `(R,)` for the use of each row.
        typical: `(R,)` for curvature: a power of two well above the use of most users; the few
            whose curvature is larger than fits are cut off.
        curvature_bits: binary digits of curvature per user, even: the more users, the fewer.
    """

    value: float
    use: Floats
    typical: Floats
    curvature_bits: int = 30


class Totals(NamedTuple):
    """Integer sums of a smoothed pass; `read` turns them into numbers.

    Attributes:
        n_near: users whose choice the temperature leaves open.
        wide: `(3 + R, 2)` int64 exact dual, smoothed dual, value and use.
        curvature: `(R (R + 1) / 2,)` int64 upper triangle.
    """

    n_near: int
    wide: Ints
    curvature: Ints

    def plus(self, other: Totals) -> Totals:
        """Sums of both."""
        return Totals(
            self.n_near + other.n_near,
            settle(self.wide + other.wide),
            self.curvature + other.curvature,
        )


def settle(wide: Ints) -> Ints:
    """The same numbers with the low part in [0, 2**32)."""
    carry = wide[..., 1] >> 32
    return np.stack([wide[..., 0] + carry, wide[..., 1] - (carry << 32)], axis=-1)


def merge_totals(a: Totals, b: Totals) -> Totals:
    """Sums over two sets of users."""
    return a.plus(b)


def wide_value(wide: Ints, unit: float | Floats) -> Any:
    """Number that a wide sum stands for."""
    return (wide[..., 0] * 2.0**32 + wide[..., 1]) * (np.asarray(unit) * 2.0**-_BITS)


class Pass(NamedTuple):
    """Numbers of a smoothed pass.

    Attributes:
        n_near: users whose choice the temperature leaves open.
        exact: sum of the best scores, without smoothing.
        smooth: the same with entropy smoothing of temperature tau.
        value: value of the smoothed (fractional) choice.
        use: `(R,)` use by the smoothed choice = -gradient of `smooth`.
        curvature: `(R, R)` Hessian of `smooth`.
    """

    n_near: int
    exact: float
    smooth: float
    value: float
    use: Floats
    curvature: Floats


def read(totals: Totals, units: Units, tau: float) -> Pass:
    """Numbers of integer sums."""
    n = len(units.use)
    values = wide_value(totals.wide[:3], units.value)
    upper = np.zeros((n, n))
    upper[np.triu_indices(n)] = totals.curvature * 2.0**-units.curvature_bits
    upper *= np.outer(units.typical, units.typical) / tau
    return Pass(
        totals.n_near,
        float(values[0]),
        float(values[1]),
        float(values[2]),
        wide_value(totals.wide[3:], units.use),
        upper + np.triu(upper, 1).T,
    )


def evaluate(
    block: Block,
    where: Where,
    lam: Floats,
    tau: float,
    units: Units,
    weight: Floats | None = None,
) -> Totals:
    """Value, use and curvature of the entropy-smoothed dual at prices lam.

    With one offer per user x is the softmax of s / tau over slots and none, and the Hessian is
    (1 / tau) sum_i [sum_j x_ij a_ij a_ij' - u_i u_i'], u_i = sum_j x_ij a_ij (Nesterov 2005,
    smoothing of max). With several, each slot has its own binary entropy under the user's limits.

    Args:
        block: users.
        where: rows, seed and size of ties.
        lam: `(R,)` prices >= 0.
        tau: temperature > 0, currency.
        units: units of the sums.
        weight: `(n,)` weight of each user in all sums; None: 1.
    """
    users, n = Users(block, where, weight), where.rows.n
    lam = np.ascontiguousarray(lam, dtype=np.float64)
    wide, near = np.zeros((3 + n, 2), dtype=np.int64), np.zeros(1, dtype=np.int64)
    curvature = np.zeros((n, n), dtype=np.int64)
    unit, scale = 2.0**_BITS / units.use, 2.0 ** (units.curvature_bits // 2) / units.typical
    sums = CSums(
        tau=tau,
        value_unit=2.0**_BITS / units.value,
        curvature_most=2.0**units.curvature_bits,
        price=address(lam),
        unit=address(unit),
        curvature_scale=address(scale),
        wide=address(wide),
        curvature=address(curvature),
        n_near=address(near),
    )
    _done(library().promo_evaluate(ctypes.byref(users.struct), ctypes.byref(sums)))
    return Totals(int(near[0]), settle(wide), curvature[np.triu_indices(len(curvature))])


class Decided(NamedTuple):
    """Slots of users at prices, and exact sums.

    Attributes:
        slots: `(n, q)` int32 in falling order of score, then -1.
        margin: `(n,)` float64 loss by the nearest other choice, currency.
        parts: `(1 + R, 256)` int64 exact value and use (`allocation.exact`); served users >= 0.
        wide: `(2,)` int64 sum of the best scores.
    """

    slots: NDArray[np.int32]
    margin: Floats
    parts: Ints
    wide: Ints


def decide(block: Block, where: Where, lam: Floats, unit: float) -> Decided:
    """Best slots at prices, with what they use exactly; see `Decided`."""
    users, n = Users(block, where), where.rows.n
    lam = np.ascontiguousarray(lam, dtype=np.float64)
    slots = np.empty((users.n, where.rows.limits.max_offers), dtype=np.int32)
    margin, wide = np.empty(users.n), np.zeros(2, dtype=np.int64)
    parts = np.zeros((1 + n, 256), dtype=np.int64)
    arrays = [address(x) for x in (slots, margin, parts, wide)]
    code = library().promo_decide(
        ctypes.byref(users.struct), address(lam), 2.0**_BITS / unit, *arrays
    )
    _done(code)
    return Decided(slots, margin, parts, settle(wide))


def best_slots(block: Block, where: Where, lam: Floats) -> NDArray[np.int32]:
    """`(n, q)` int32 best slots at prices."""
    users = Users(block, where)
    lam = np.ascontiguousarray(lam, dtype=np.float64)
    slots = np.empty((users.n, where.rows.limits.max_offers), dtype=np.int32)
    code = library().promo_decide(
        ctypes.byref(users.struct), address(lam), 1.0, address(slots), None, None, None
    )
    _done(code)
    return slots


def _done(code: int) -> None:
    if code:
        raise PromoRayError("the compiled kernel must have memory for one user's work; it has none")
