"""What is to be allocated, how it is split into blocks, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.errors import DataError

_CHECK_PAIRS = 1 << 22  # pairs looked at in one go when input is checked: 16 MiB of float32


class Block(NamedTuple):
    """Users of one block with the slots (offers) they can get; read-only.

    Attributes:
        value: `(n, m)` float32, currency; -inf = not eligible.
        costs: `(k, n, m)` float32 >= 0, use of each budget.
        keys: `(n,)` uint64 keys of the users (`seeding.keys_of`): they break ties and draw the
            sample, so that neither depends on where a user stands.
        offer_idx: `(n, m)` int32 offer of each slot; None: the column.
        capacity_use: `(n, m)` float32 >= 0, use of the offer's own row; None: 1.
    """

    value: NDArray[np.float32]
    costs: NDArray[np.float32]
    keys: NDArray[np.uint64]
    offer_idx: NDArray[np.int32] | None = None
    capacity_use: NDArray[np.float32] | None = None


class Rows(NamedTuple):
    """Shape of the rows: `n_budgets` budgets, then `n_offers` capacities (0: none given).

    `most`, if given, is the largest use of each row that a single pair may have; pairs above it
    count as not eligible.
    """

    n_budgets: int
    n_offers: int
    most: tuple[float, ...] | None = None

    @property
    def n(self) -> int:
        """Number of rows, and of prices."""
        return self.n_budgets + self.n_offers


@dataclass(frozen=True, kw_only=True)
class AllocationProblem:
    """Maximize the value of at most one offer per user within budgets and offer capacities.

        max sum v_ij x_ij   with   sum_j x_ij <= 1,   sum_ij c_kij x_ij <= budget_k,
        sum_{ij: offer of ij is o} w_ij x_ij <= capacity_o,   x_ij in {0, 1}

    The problem is the one in float32: value is rounded to nearest, use (costs, capacity_use)
    upwards, so that rows that hold here also hold for wider input.

    Attributes:
        value: `(n, m)` float32, currency; -inf = not eligible.
        costs: `(k, n, m)` float32 >= 0, use of each budget; k may be 0.
        budgets: `(k,)` float64 >= 0; infinity = no limit.
        offer_idx: `(n, m)` int32 offer of each slot (sparse candidate lists); None: the column.
        capacity: `(n_offers,)` float64 >= 0 right-hand side of the offer rows; None: no limits.
        capacity_use: `(n, m)` float32 >= 0 use of the offer's own row; None: 1.
        keys: `(n,)` uint64 keys of the users; None: the row number.
    """

    value: NDArray[np.float32]
    costs: NDArray[np.float32]
    budgets: NDArray[np.float64]
    offer_idx: NDArray[np.int32] | None = None
    capacity: NDArray[np.float64] | None = None
    capacity_use: NDArray[np.float32] | None = None
    keys: NDArray[np.uint64] | None = None

    def __post_init__(self) -> None:
        value = _numbers(self.value, 2, "value")
        n, m = value.shape
        if m == 0:
            raise DataError("must have at least one column; got 0", where="value")
        value = value.astype(np.float32, copy=False)
        _check(value, "value", "must be finite or -inf", lambda v: ~(v < np.inf))
        costs = _use(self.costs, 3, "costs")
        if costs.shape[1:] != (n, m):
            raise DataError(f"must be (k, {n}, {m}); got {costs.shape}", where="costs")
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "costs", costs)
        object.__setattr__(self, "budgets", right_hand_side(self.budgets, "budgets", len(costs)))
        self._check_offers(n, m)
        keys = np.arange(n, dtype=np.uint64) if self.keys is None else np.asarray(self.keys)
        if keys.shape != (n,) or keys.dtype != np.uint64:
            raise DataError(f"must be ({n},) uint64; got {keys.shape} {keys.dtype}", where="keys")
        object.__setattr__(self, "keys", keys)

    def _check_offers(self, n: int, m: int) -> None:
        if self.capacity_use is not None:
            use = _use(self.capacity_use, 2, "capacity_use")
            if use.shape != (n, m):
                raise DataError(f"must be ({n}, {m}); got {use.shape}", where="capacity_use")
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
        if self.offer_idx is None:
            return
        idx = np.asarray(self.offer_idx)
        if idx.shape != (n, m) or not np.issubdtype(idx.dtype, np.integer):
            raise DataError(
                f"must be ({n}, {m}) integers; got {idx.shape} {idx.dtype}", where="offer_idx"
            )
        if idx.size and (idx.min() < 0 or (n_offers is not None and idx.max() >= n_offers)):
            raise DataError(
                f"must lie in [0, {'n_offers' if n_offers is None else n_offers}); "
                f"got {idx.min()} to {idx.max()}",
                where="offer_idx",
            )
        object.__setattr__(self, "offer_idx", idx.astype(np.int32, copy=False))

    def blocks(self, n_users: int) -> list[Block]:
        """Blocks of `n_users` consecutive users (views); one empty block without users."""
        keys = np.empty(0, dtype=np.uint64) if self.keys is None else self.keys
        found = []
        for a in range(0, max(1, len(self.value)), n_users):
            own = slice(a, a + n_users)
            found.append(
                Block(
                    self.value[own],
                    self.costs[:, own],
                    keys[own],
                    None if self.offer_idx is None else self.offer_idx[own],
                    None if self.capacity_use is None else self.capacity_use[own],
                )
            )
        return found


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Prices and quality of an allocation; see `Allocation`."""

    prices: NDArray[np.float64]
    value: float
    bound: float
    gap: float
    slack: NDArray[np.float64]
    n_passes: int
    n_split_users: int
    converged: bool


@dataclass(frozen=True, kw_only=True)
class Allocation(Certificate):
    """Who gets what, with a certificate.

    Attributes:
        choice: `(n,)` int32 slot of each user, -1 = no offer.
        prices: `(k + n_offers,)` float64 >= 0, value of one more unit of each row (n_offers = 0
            without capacity).
        value: total value of the choice, currency.
        bound: no allocation, fractional ones included, is worth more (dual value at `prices`).
        gap: (bound - value) / bound, a rate; 0 if the bound is 0.
        slack: `(k + n_offers,)` float64 >= 0, what is left of each row.
        n_passes: passes over all users.
        n_split_users: users whom the linear program would have given parts of several offers.
        converged: the bound is within `tolerance` of the best fractional allocation.
    """

    choice: NDArray[np.int32]


def right_hand_side(values: ArrayLike, where: str, size: int | None) -> NDArray[np.float64]:
    """Limits of rows as `(size,)` float64.

    Raises:
        DataError: wrong shape, NaN or negative.
    """
    limits = _numbers(values, 1, where).astype(np.float64)
    if size is not None and len(limits) != size:
        raise DataError(f"must have {size} entries, one per cost; got {len(limits)}", where=where)
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


def _use(values: Any, n_dims: int, where: str) -> NDArray[np.float32]:
    wide = _numbers(values, n_dims, where)
    use = wide.astype(np.float32, copy=False)
    if use.dtype != wide.dtype:
        use = np.where(use < wide, np.nextafter(use, np.float32(np.inf)), use)
    _check(use, where, "must be finite and >= 0", lambda c: ~((c >= 0) & (c < np.inf)))
    return use


def _check(values: NDArray[np.float32], where: str, rule: str, is_bad: Any) -> None:
    stacked = values.reshape(-1, values.shape[-1]) if values.size else values
    step = max(1, _CHECK_PAIRS // values.shape[-1]) if values.size else 1
    for a in range(0, len(stacked) if values.size else 0, step):
        bad = is_bad(stacked[a : a + step])
        if bad.any():
            raise DataError(f"{rule}; got {stacked[a : a + step][bad][0]}", where=where)
