"""`solve` and `solve_resident`: prices, certificate and a whole answer that keeps every row.

1. One pass finds the scale and draws a sample, which is solved for the first prices. 2. Newton's
method on the smoothed dual over all users; each pass also gathers users near a tie (a bounded
number). 3. A linear program shares among those what the others leave, and exchanges make it
whole. All row checks are exact. Only prices, sums and gathered users travel, never the data.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.allocation.blocks import (
    MappedSource,
    Placed,
    check_shapes,
    shape_of,
    sources_of,
)
from promo_ray.allocation.floors import refuse, refuse_too_high
from promo_ray.allocation.kernel import Floats
from promo_ray.allocation.last import Whole
from promo_ray.allocation.problem import (
    AllocationProblem,
    Block,
    Groups,
    Rows,
    limits_of,
    right_hand_side,
)
from promo_ray.allocation.result import (
    Allocation,
    BlockDecision,
    Certificate,
    ResidentAllocation,
    choose_block,
)
from promo_ray.allocation.search import Outcome, Search, survey_all
from promo_ray.allocation.survey import Survey
from promo_ray.errors import ConvergenceWarning, DataError
from promo_ray.execution.executor import Executor, Resident, SerialExecutor
from promo_ray.execution.threads import single_threaded
from promo_ray.telemetry import SILENT, Progress

BLOCK_USERS = 1 << 16
_COARSE_GAP = 1e-3  # above it, pairs that no whole answer can hold are worth leaving out

Blocks = Iterable["AllocationProblem | Block | Callable[[], Block]"]


def solve(
    problem: AllocationProblem | Blocks,
    executor: Executor | None = None,
    warm_prices: ArrayLike | None = None,
    tolerance: float = 1e-7,
    seed: int = 0,
    *,
    budgets: ArrayLike | None = None,
    capacity: ArrayLike | None = None,
    floors: ArrayLike | None = None,
    max_offers: int = 1,
    groups: Groups | None = None,
    block_users: int = BLOCK_USERS,
    progress: Progress = SILENT,
) -> Allocation:
    """Decide who gets which offer; see `AllocationProblem` and `Allocation`.

    Args:
        problem: values, use and limits. Or blocks of users, in order: `Block`s or callables that
            read one where it is used, with the limits as further arguments; or
            `AllocationProblem`s over a part of the users each, whose limits are equal and hold
            for all of them together.
        executor: where to run; this process if None.
        warm_prices: `(k + n_offers + n_segments,)` prices of a similar problem to start from.
        tolerance: relative distance between bound and best fractional allocation, > 0.
        seed: seed of the sample and of the split of ties.
        budgets: `(k,)`, with blocks only.
        capacity: `(n_offers,)`, with blocks only.
        floors: `(n_segments,)`, with blocks only.
        max_offers: most offers per user, with blocks only.
        groups: laminar limits per user, with blocks only.
        block_users: users per block of a problem that comes whole; changes no answer.
        progress: told the passes done and the bound; it may stop the search.

    Returns:
        The same bits for every executor, number of workers and split into blocks.

    Raises:
        DataError: an argument breaks a rule.
        InfeasibleError: no allocation keeps all floors within the other rows.
    """
    if not isinstance(problem, AllocationProblem):
        if isinstance(problem, Block) or not isinstance(problem, Iterable):
            got = type(problem).__name__
            raise DataError(f"must be a problem or blocks; got {got}", where="problem")
        problem = list(problem)
    whole = _limits_within(problem)
    if whole is not None:
        if any(x is not None for x in (budgets, capacity, floors, groups)) or max_offers != 1:
            raise DataError(
                "must not be given beside a problem, which holds them",
                where="budgets, capacity, floors, max_offers or groups",
            )
        budgets, capacity, floors = whole.budgets, whole.capacity, whole.floors
        max_offers, groups = whole.max_offers, whole.groups
    elif budgets is None:
        raise DataError("must be given with blocks; got None", where="budgets")
    if not isinstance(block_users, int) or block_users < 1:
        raise DataError(f"must be an integer >= 1; got {block_users!r}", where="block_users")
    resident = _loaded(executor or SerialExecutor(), sources_of(problem, block_users))
    try:
        found = solve_resident(
            resident,
            np.asarray(budgets),
            capacity=capacity,
            floors=floors,
            max_offers=max_offers,
            groups=groups,
            warm_prices=warm_prices,
            tolerance=tolerance,
            seed=seed,
            progress=progress,
        )
        choice = _joined(resident.map(choose_block, each=found.decisions))
        if max_offers > 1:  # more than there are slots: no offer in the rest
            columns = choice[:, None] if choice.ndim == 1 else choice
            rest = ((0, 0), (0, max_offers - columns.shape[1]))
            choice = np.pad(columns, rest, constant_values=-1)
    finally:
        resident.release()
    fields = {f: getattr(found, f) for f in Certificate.__dataclass_fields__}
    return Allocation(**fields, choice=choice)


def _loaded(executor: Executor, sources: list[Any]) -> Resident[Block]:
    """Resident blocks; those that callables read are told where their users stand."""
    resident = executor.load(sources)
    is_read = [callable(s) and not isinstance(s, MappedSource) for s in sources]
    if not any(is_read):
        return resident
    shapes = resident.map(shape_of)
    if all("keys" in shape.given for shape in shapes):
        return resident
    resident.release()
    first = np.cumsum([0, *(shape.n for shape in shapes)]).tolist()
    placed = [
        Placed(source, start) if read else source
        for source, start, read in zip(sources, first, is_read, strict=False)
    ]
    return executor.load(placed)


def _joined(parts: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    """Parts one after another; each is let go of once it is copied."""
    whole = np.empty((sum(len(part) for part in parts), *parts[0].shape[1:]), dtype=np.int32)
    parts.reverse()
    end = 0
    while parts:
        part = parts.pop()
        whole[end : end + len(part)] = part
        end += len(part)
    return whole


def _limits_within(problem: AllocationProblem | list[Any]) -> AllocationProblem | None:
    """The problem that holds the limits, if any does.

    Raises:
        DataError: parts of a problem have different limits, or there is no block.
    """
    if isinstance(problem, AllocationProblem):
        return problem
    if not problem:
        raise DataError("must be a problem or at least one block; got none", where="problem")
    first = problem[0]
    if not isinstance(first, AllocationProblem):
        return None
    for i, other in enumerate(problem):
        if not isinstance(other, AllocationProblem):
            raise DataError("must be a problem like the first", where=f"problem[{i}]")
        for name in ("budgets", "capacity", "floors"):
            mine, its = getattr(first, name), getattr(other, name)
            if (mine is None) != (its is None) or not np.array_equal(mine, its):
                raise DataError(f"must have the {name} of the first", where=f"problem[{i}]")
        if (first.max_offers, first.groups) != (other.max_offers, other.groups):
            rule = "must have the max_offers and groups of the first"
            raise DataError(rule, where=f"problem[{i}]")
    return first


def solve_resident(
    resident: Resident[Block],
    budgets: ArrayLike,
    *,
    capacity: ArrayLike | None = None,
    floors: ArrayLike | None = None,
    max_offers: int = 1,
    groups: Groups | None = None,
    warm_prices: ArrayLike | None = None,
    tolerance: float = 1e-7,
    seed: int = 0,
    progress: Progress = SILENT,
) -> ResidentAllocation:
    """Allocate over blocks that an executor holds; the data stay where they are.

    Args:
        resident: shards of type `Block`, all with the same number of budgets.
        budgets: `(k,)` >= 0; infinity = no limit.
        capacity: `(n_offers,)` >= 0 right-hand sides of the offer rows, or None.
        floors: `(n_segments,)` >= 0 least served users per segment, or None.
        max_offers: most offers per user.
        groups: laminar limits per user, see `AllocationProblem`.
        warm_prices: `(k + n_offers + n_segments,)` prices to start from.
        tolerance: see `solve`.
        seed: see `solve`.
        progress: see `solve`.

    Raises:
        DataError: an argument has the wrong shape, is NaN or negative.
        InfeasibleError: no allocation keeps all floors within the other rows.
    """
    limit = right_hand_side(budgets, "budgets", None)
    more = np.empty(0) if capacity is None else right_hand_side(capacity, "capacity", None)
    least = np.empty(0) if floors is None else right_hand_side(floors, "floors", None)
    rows = Rows(len(limit), len(more), len(least))
    shapes = resident.map(shape_of)
    check_shapes(shapes, rows)
    n_slots = shapes[0].m
    n_ids = None if capacity is None else len(more)
    rows = rows._replace(limits=limits_of(max_offers, groups, n_slots, n_ids))
    rhs = np.concatenate([limit, more, -least])
    if not isinstance(tolerance, int | float) or not tolerance > 0:
        raise DataError(f"must be > 0; got {tolerance!r}", where="tolerance")
    warm = None if warm_prices is None else right_hand_side(warm_prices, "warm_prices", rows.n)
    if warm is not None and not np.isfinite(warm).all():
        raise DataError("must be finite; got inf", where="warm_prices")
    with single_threaded():
        facts = survey_all(resident, rows, seed, n_slots, progress)
        refuse_too_high(resident, rows, rhs, seed, facts)

        def search(rows: Rows, start: Floats | None) -> Outcome:
            return Search(resident, rows, rhs, facts, seed, tolerance, progress).run(start)

        found = search(rows, warm)
        best, n_passes = found.whole, 1 + found.n_passes
        if best is not None and _has_oversize(found, best, rhs, rows, facts):
            other = search(rows._replace(most=tuple(rhs.tolist())), None)
            n_passes += other.n_passes
            if other.whole is not None and other.whole.value > best.value:
                best = other.whole
        if best is None and warm is not None:  # prices of too unlike a problem
            found = search(rows, None)
            best, n_passes = found.whole, n_passes + found.n_passes
        if best is None:
            raise refuse(resident, rows, rhs, seed, facts)
    bound = float(
        max(found.bound, best.value)
    )  # rounding of the bound must not contradict the value
    converged = bool(bound - max(found.lower, best.value) <= tolerance * abs(bound))
    if not converged:
        warnings.warn(
            f"allocation stopped after {n_passes} passes; its bound may be improvable",
            ConvergenceWarning,
            stacklevel=2,
        )
    return ResidentAllocation(
        prices=_closing(found.prices, rows, rhs, facts),
        value=best.value,
        bound=bound,
        gap=(bound - best.value) / abs(bound) if bound else 0.0,
        slack=best.slack,
        n_passes=n_passes,
        n_split_users=best.n_split,
        converged=converged,
        decisions=tuple(_decisions(best, [shape.n for shape in shapes])),
    )


def _has_oversize(found: Outcome, best: Whole, rhs: Floats, rows: Rows, facts: Survey) -> bool:
    """Whether pairs that exceed a row alone may hide a better whole answer."""
    n = rows.n_packing
    is_coarse = found.bound - best.value > _COARSE_GAP * abs(found.bound)
    return is_coarse and bool((facts.largest[:n] > rhs[:n]).any())


def _closing(prices: Floats, rows: Rows, rhs: Floats, facts: Survey) -> Floats:
    """Prices that keep everyone who needs some of a row of 0 away from it, as the search did."""
    n = rows.n_packing
    bonus = prices[n:].max(initial=0.0)
    dearest = facts.highest[:n] * (1.0 + 2.0**-18) + bonus / facts.smallest[:n]
    closed = prices.copy()
    closed[:n] = np.where((rhs[:n] == 0) & (facts.largest[:n] > 0), dearest, prices[:n])
    return closed


def _decisions(best: Whole, counts: list[int]) -> Iterator[BlockDecision]:
    end = 0
    for n in counts:
        start, end = end, end + n
        own = slice(*np.searchsorted(best.position, [start, end]))
        yield BlockDecision(best.lam, best.where, best.position[own] - start, best.slots[own])
