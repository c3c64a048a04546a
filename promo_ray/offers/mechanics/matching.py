"""Whole sets out of runs of units when a unit may fit several slots of a set."""

from __future__ import annotations

from collections.abc import Sequence


def most_sets(fits: Sequence[Sequence[bool]], have: Sequence[int], need: Sequence[int]) -> int:
    """Largest number of whole sets.

    Args:
        fits: `[run][slot]`, whether the units of a run fit a slot.
        have: units of each run.
        need: units of each slot in one set, >= 1.
    """
    per_slot = [
        sum(n for n, row in zip(have, fits, strict=True) if row[s]) // need[s]
        for s in range(len(need))
    ]
    useful = sum(n for n, row in zip(have, fits, strict=True) if any(row))
    low, high = 0, min(*per_slot, useful // sum(need))
    times = high  # slots that share no units need no search
    while low < high:
        if sum(_fill(fits, have, need, range(len(have)), times)) == times * sum(need):
            low = times
        else:
            high = times - 1
        times = (low + high + 1) // 2
    return low


def dearest_sets(
    fits: Sequence[Sequence[bool]],
    have: Sequence[int],
    need: Sequence[int],
    price: Sequence[int],
    times: int,
) -> list[int]:
    """Units of each run in `times` whole sets, dearest together; `times` sets must be possible.

    Sets of units that can fill slots are the independent sets of a transversal matroid, so taking
    the dearest that still fits gives the largest total (Edmonds 1971). Units of one price are
    taken in the order of the runs.
    """
    order = sorted(range(len(have)), key=lambda i: -price[i])
    return _fill(fits, have, need, order, times)


def _fill(
    fits: Sequence[Sequence[bool]],
    have: Sequence[int],
    need: Sequence[int],
    order: Sequence[int],
    times: int,
) -> list[int]:
    """Units of each run placed in `times` sets, as many as possible of each run in its turn.

    Augmenting paths: a full slot makes room by handing units of another run to a slot that they
    fit too. What a run has placed is never taken back, only moved.
    """
    free = [n * times for n in need]
    placed = [[0] * len(need) for _ in have]
    for i in order:
        left = have[i]
        while left:
            path = _path(fits, placed, free, i)
            if path is None:
                break
            moves = [placed[j][a] for j, a, _ in path[1:]]
            n = min(left, free[path[-1][2]], *moves)
            for j, a, b in path:
                placed[j][b] += n
                if a >= 0:
                    placed[j][a] -= n
            free[path[-1][2]] -= n
            left -= n
    return [sum(row) for row in placed]


def _path(
    fits: Sequence[Sequence[bool]],
    placed: Sequence[Sequence[int]],
    free: Sequence[int],
    start: int,
) -> list[tuple[int, int, int]] | None:
    """Shortest way to a free slot: moves `(run, slot it leaves or -1, slot it goes to)`."""
    came: dict[int, tuple[int, int]] = {}  # slot -> (run that goes there, slot it leaves)
    queue = [(start, -1)]
    for run, leaves in queue:
        for slot in range(len(free)):
            if not fits[run][slot] or slot in came:
                continue
            came[slot] = (run, leaves)
            if free[slot] > 0:
                path = []
                while slot >= 0:
                    mover, before = came[slot]
                    path.append((mover, before, slot))
                    slot = before
                return path[::-1]
            queue += [(j, slot) for j in range(len(placed)) if placed[j][slot] > 0]
    return None
