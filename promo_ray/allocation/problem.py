"""What is to be allocated, how it is split into blocks, and the checks on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.allocation.limits import UserLimits, user_limits
from promo_ray.errors import DataError

_CHECK_NUMBERS = 1 << 18  # looked at in one go when input is checked: 1 MiB of float32

Groups = Sequence[tuple[Sequence[int], int]]


class Block(NamedTuple):
    """Users of one block with the slots (offers) they can get; read-only.

    Attributes:
        value: `(n, m)` float32, currency; -inf = not eligible.
        costs: `(k, n, m)` float32 >= 0, use of each budget.
        keys: `(n,)` uint64 keys of the users (`seeding.keys_of`), None: their position among all.
            They break ties and draw the sample.
        offer_idx: `(n, m)` int32 offer of each slot; None: the column.
        capacity_use: `(n, m)` float32 >= 0, use of the offer's own row; None: 1.
        segment_idx: `(n,)` int32 segment of each user, -1 = none; None: no floors.
        first: position of the first user among all; matters without keys.
    """

    value: NDArray[np.float32]
    costs: NDArray[np.float32]
    keys: NDArray[np.uint64] | None = None
    offer_idx: NDArray[np.int32] | None = None
    capacity_use: NDArray[np.float32] | None = None
    segment_idx: NDArray[np.int32] | None = None
    first: int = 0


class Rows(NamedTuple):
    """Shape of the rows: budgets, then offer capacities, then segment floors (0: none given).

    Attributes:
        n_budgets: number of budgets.
        n_offers: number of offer capacities.
        n_segments: number of segment floors.
        limits: offers per user.
        most: largest use of each row that a single pair may have, None = any; pairs above it
            count as not eligible.
        value_factor: factor on all values; 0 where only the floors matter.
    """

    n_budgets: int
    n_offers: int = 0
    n_segments: int = 0
    limits: UserLimits = user_limits(1, None, 0)
    most: tuple[float, ...] | None = None
    value_factor: float = 1.0

    @property
    def n(self) -> int:
        """Number of rows, and of prices."""
        return self.n_budgets + self.n_offers + self.n_segments

    @property
    def n_packing(self) -> int:
        """Number of rows that limit use: budgets and capacities."""
        return self.n_budgets + self.n_offers

    def name(self, row: int) -> str:
        """Name of a row, for example `budget[0]`."""
        if row < self.n_budgets:
            return f"budget[{row}]"
        if row < self.n_packing:
            return f"capacity[{row - self.n_budgets}]"
        return f"floor[{row - self.n_packing}]"


@dataclass(frozen=True, kw_only=True)
class AllocationProblem:
    """Maximize the value of the offers given, within budgets, capacities, floors and user limits.

        max sum v_is x_is   with   sum_s x_is <= max_offers,   sum_is c_kis x_is <= budget_k,
        sum_{is: offer of is is o} w_is x_is <= capacity_o,
        number of users of segment g with an offer >= floor_g,   x_is in {0, 1}

    The problem is the one in float32: value is rounded to nearest, use (costs, capacity_use)
    upwards, so that rows that hold here also hold for wider input. Arrays may be memory-mapped.

    Attributes:
        value: `(n, m)` float32, currency; -inf = not eligible.
        costs: `(k, n, m)` float32 >= 0, use of each budget; k may be 0.
        budgets: `(k,)` float64 >= 0; infinity = no limit.
        offer_idx: `(n, m)` int32 offer of each slot (sparse candidate lists); None: the column.
        capacity: `(n_offers,)` float64 >= 0 right-hand side of the offer rows; None: no limits.
        capacity_use: `(n, m)` float32 >= 0 use of the offer's own row; None: 1.
        segment_idx: `(n,)` int32 segment of each user, -1 = none; None: no floors.
        floors: `(n_segments,)` float64 >= 0, least number of served users; None: no floors.
        max_offers: most offers per user, >= 1.
        groups: laminar limits per user: pairs (offers, limit), at most `limit` of these offers to
            one user; the sets of offers must be nested or disjoint.
        keys: `(n,)` uint64 keys of the users; None: the row number.
    """

    value: NDArray[np.float32]
    costs: NDArray[np.float32]
    budgets: NDArray[np.float64]
    offer_idx: NDArray[np.int32] | None = None
    capacity: NDArray[np.float64] | None = None
    capacity_use: NDArray[np.float32] | None = None
    segment_idx: NDArray[np.int32] | None = None
    floors: NDArray[np.float64] | None = None
    max_offers: int = 1
    groups: Groups | None = None
    keys: NDArray[np.uint64] | None = None

    def __post_init__(self) -> None:
        value = _numbers(self.value, 2, "value")
        n, m = value.shape
        if m == 0:
            raise DataError("must have at least one column; got 0", where="value")
        value = np.ascontiguousarray(value, dtype=np.float32)
        _check(value, "value", "must be finite or -inf", lambda v: v.max() < np.inf, _is_no_value)
        costs = _use(self.costs, (None, n, m), "costs")
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "costs", costs)
        object.__setattr__(self, "budgets", right_hand_side(self.budgets, "budgets", len(costs)))
        self._check_offers(n, m)
        self._check_segments(n)
        if self.keys is not None:
            keys = np.asarray(self.keys)
            if keys.shape != (n,) or keys.dtype != np.uint64:
                raise DataError(
                    f"must be ({n},) uint64; got {keys.shape} {keys.dtype}", where="keys"
                )
            object.__setattr__(self, "keys", keys)
        n_offers = m if self.offer_idx is None else None
        limits_of(
            self.max_offers,
            self.groups,
            m,
            n_offers if self.capacity is None else len(self.capacity),
        )

    def _check_offers(self, n: int, m: int) -> None:
        if self.capacity_use is not None:
            use = _use(self.capacity_use, (n, m), "capacity_use")
            object.__setattr__(self, "capacity_use", use)
        n_offers = None
        if self.capacity is not None:
            capacity = right_hand_side(self.capacity, "capacity", None)
            n_offers = len(capacity)
            object.__setattr__(self, "capacity", capacity)
            if self.offer_idx is None and n_offers != m:
                raise DataError(
                    f"must have one entry per column ({m}) without offer_idx; got {n_offers}",
                    where="capacity",
                )
        if self.offer_idx is not None:
            idx = _indices(self.offer_idx, (n, m), "offer_idx", 0, n_offers)
            object.__setattr__(self, "offer_idx", idx)

    def _check_segments(self, n: int) -> None:
        if self.floors is not None:
            floors = right_hand_side(self.floors, "floors", None)
            if not np.isfinite(floors).all():
                raise DataError("must be finite; got inf", where="floors")
            object.__setattr__(self, "floors", floors)
            if self.segment_idx is None:
                raise DataError("must be given with floors; got None", where="segment_idx")
        if self.segment_idx is not None:
            n_segments = None if self.floors is None else len(self.floors)
            idx = _indices(self.segment_idx, (n,), "segment_idx", -1, n_segments)
            object.__setattr__(self, "segment_idx", idx)

    def blocks(self, n_users: int) -> list[Block]:
        """Blocks of `n_users` consecutive users (views); one empty block without users."""
        found = []
        for a in range(0, max(1, len(self.value)), n_users):
            own = slice(a, a + n_users)
            found.append(
                Block(
                    self.value[own],
                    self.costs[:, own],
                    None if self.keys is None else self.keys[own],
                    None if self.offer_idx is None else self.offer_idx[own],
                    None if self.capacity_use is None else self.capacity_use[own],
                    None
                    if self.segment_idx is None or self.floors is None
                    else self.segment_idx[own],
                    a,
                )
            )
        return found


def limits_of(max_offers: int, groups: Groups | None, m: int, n_offers: int | None) -> UserLimits:
    """Limits per user, checked.

    Args:
        max_offers: most offers of a user; more than m count as m.
        groups: laminar limits.
        m: slots of a user.
        n_offers: number of offers that groups may name, None = any.

    Raises:
        DataError: `max_offers` or `groups` break a rule.
    """
    is_integer = isinstance(max_offers, int | np.integer) and not isinstance(max_offers, bool)
    if not is_integer or max_offers < 1:
        raise DataError(f"must be an integer >= 1; got {max_offers!r}", where="max_offers")
    if groups is not None and (isinstance(groups, str) or not isinstance(groups, Sequence)):
        raise DataError(f"must be a sequence of pairs; got {groups!r}", where="groups")
    return user_limits(min(int(max_offers), m), groups, n_offers)


def right_hand_side(values: ArrayLike, where: str, size: int | None) -> NDArray[np.float64]:
    """Limits of rows as `(size,)` float64.

    Raises:
        DataError: wrong shape, NaN or negative.
    """
    limits = _numbers(values, 1, where).astype(np.float64)
    if size is not None and len(limits) != size:
        raise DataError(f"must have {size} entries; got {len(limits)}", where=where)
    if not (limits >= 0).all():
        raise DataError(f"must be >= 0; got {limits[~(limits >= 0)][0]}", where=where)
    return limits


def _numbers(values: Any, n_dims: int, where: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != n_dims:
        raise DataError(f"must have {n_dims} dimensions; got shape {array.shape}", where=where)
    if array.dtype.kind not in "fiu" and array.size:
        raise DataError(f"must be real numbers; got {array.dtype}", where=where)
    return array


def _indices(
    values: Any, shape: tuple[int, ...], where: str, least: int, stop: int | None
) -> NDArray[np.int32]:
    idx = np.asarray(values)
    if idx.shape != shape or (idx.size and not np.issubdtype(idx.dtype, np.integer)):
        raise DataError(f"must be {shape} integers; got {idx.shape} {idx.dtype}", where=where)
    end = 1 << 31 if stop is None else stop
    if idx.size and (idx.min() < least or idx.max() >= end):
        raise DataError(
            f"must lie in [{least}, {end}); got {idx.min()} to {idx.max()}", where=where
        )
    return np.ascontiguousarray(idx, dtype=np.int32)


def _use(values: Any, shape: tuple[int | None, ...], where: str) -> NDArray[np.float32]:
    wide = _numbers(values, len(shape), where)
    if wide.shape[-2:] != shape[-2:]:
        words = ", ".join("k" if s is None else str(s) for s in shape)
        raise DataError(f"must be ({words}); got {wide.shape}", where=where)
    use = wide.astype(np.float32, copy=False)
    if use.dtype != wide.dtype:
        use = np.where(use < wide, np.nextafter(use, np.float32(np.inf)), use)
    if use.size and any(s < 0 for s in use.strides):
        use = np.ascontiguousarray(use)
    rule = "must be finite and >= 0"
    for layer in use if use.ndim == 3 else [use]:
        _check(layer, where, rule, lambda c: c.min() >= 0 and c.max() < np.inf, _is_no_use)
    return use


def _is_no_value(v: NDArray[Any]) -> NDArray[np.bool_]:
    return ~(v < np.inf)


def _is_no_use(c: NDArray[Any]) -> NDArray[np.bool_]:
    return ~((c >= 0) & (c < np.inf))


def _check(values: NDArray[Any], where: str, rule: str, is_good: Any, is_bad: Any) -> None:
    """Look at some rows at a time: input may be larger than memory."""
    step = max(1, _CHECK_NUMBERS // max(1, values.shape[-1]))
    for a in range(0, len(values) if values.size else 0, step):
        part = values[a : a + step]
        if not is_good(part):
            raise DataError(f"{rule}; got {part[is_bad(part)][0]}", where=where)
