"""The last users: a linear program over those near a tie, rounding, exchange; rows exact.

Everyone else is decided by the prices. What they leave of each row is an exact integer (units of
`allocation.exact`), and every step here takes from it exactly.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from promo_ray.allocation.exact import from_units, units
from promo_ray.allocation.kernel import Floats, Ints, oversize
from promo_ray.allocation.problem import Block, Rows
from promo_ray.errors import PromoRayError

_WHOLE = 1.0 - 1e-6  # share of a slot that counts as all of it
_MOST_MOVES = 600  # moves of single users whose pairs are tried
_SET_WORK = 5e5  # sets of moves times rows looked at in one exchange
_MAX_EXCHANGES = 300
_MOST_TRIED = 1000  # sets checked exactly in one exchange


class Pairs(NamedTuple):
    """Eligible pairs of positive value among a few users.

    Attributes:
        user: `(p,)` int64, ascending.
        slot: `(p,)` int64.
        value: `(p,)` float64.
        use: `(R, p)` float64 use of each row.
    """

    user: Ints
    slot: Ints
    value: Floats
    use: Floats


def pairs_of(users: Block, rows: Rows) -> Pairs:
    """Pairs that can raise the value."""
    user, slot = np.nonzero((users.value > 0) & ~oversize(users, rows, slice(None)))
    use = np.zeros((rows.n, len(user)))
    use[: rows.n_budgets] = users.costs[:, user, slot]
    if rows.n_offers:
        offer = slot if users.offer_idx is None else users.offer_idx[user, slot]
        amount = 1.0 if users.capacity_use is None else users.capacity_use[user, slot]
        use[rows.n_budgets + offer, np.arange(len(user))] = amount
    return Pairs(user, slot, users.value[user, slot].astype(np.float64), use)


class Relaxation(NamedTuple):
    """Optimum of the linear program over a few users.

    Attributes:
        share: `(p,)` share of each pair.
        value: value of the optimum.
        prices: `(R,)` dual prices >= 0.
        n_split: users with parts of several slots, or of one.
    """

    share: Floats
    value: float
    prices: Floats
    n_split: int


def relax(pairs: Pairs, n_users: int, left: Floats) -> Relaxation:
    """Solve the linear program by HiGHS (Huangfu and Hall 2018); rows and values scaled to 1.

    Args:
        pairs: candidate pairs.
        n_users: number of users.
        left: `(R,)` what the rows have left, >= 0, may be infinite.
    """
    n_pairs = len(pairs.user)
    binds = np.flatnonzero(np.isfinite(left) & (pairs.use.max(axis=1, initial=0.0) > 0))
    if not n_pairs:
        return Relaxation(np.zeros(0), 0.0, np.zeros(len(left)), 0)
    unit = pairs.use[binds].max(axis=1)
    money = pairs.value.max()
    row, at = np.nonzero(pairs.use[binds])
    matrix = coo_array(
        (
            np.concatenate([np.ones(n_pairs), (pairs.use[binds] / unit[:, None])[row, at]]),
            (
                np.concatenate([pairs.user, n_users + row]),
                np.concatenate([np.arange(n_pairs), at]),
            ),
        ),
        shape=(n_users + len(binds), n_pairs),
    ).tocsr()
    solved = linprog(
        -pairs.value / money,
        A_ub=matrix,
        b_ub=np.concatenate([np.ones(n_users), left[binds] / unit]),
        bounds=(0, None),
        method="highs",
    )
    if solved.x is None:
        raise PromoRayError(f"HiGHS must solve the linear program of ties; got {solved.message}")
    prices = np.zeros(len(left))
    prices[binds] = np.maximum(0.0, -solved.ineqlin.marginals[n_users:]) * money / unit
    share = np.clip(solved.x, 0.0, 1.0)
    is_part = (share > 1.0 - _WHOLE) & (share < _WHOLE)
    n_split = len(np.unique(pairs.user[is_part]))
    return Relaxation(share, float(pairs.value @ share), prices, n_split)


def make_whole(
    pairs: Pairs, n_users: int, left: list[int | None], relaxed: Relaxation
) -> tuple[Ints, list[int | None]]:
    """Whole choice near a fractional one: whole shares stay, then exchanges use what is left.

    Args:
        pairs: candidate pairs.
        n_users: number of users.
        left: what each row has left in exact units, None = no limit.
        relaxed: fractional choice.

    Returns:
        `(n_users,)` int64 index of a pair, -1 = none, and what the rows then have left, >= 0.
    """
    chosen = np.full(n_users, -1, dtype=np.int64)
    slack = Slack(pairs, left)
    order = np.flatnonzero(relaxed.share >= _WHOLE)
    for pair in order[np.argsort(-pairs.value[order], kind="stable")].tolist():
        if slack.fits([(-1, pair)]):
            slack.swap([(-1, pair)])
            chosen[pairs.user[pair]] = pair
    exchange(pairs, chosen, slack, relaxed.prices)
    fill(pairs, chosen, slack, relaxed.prices)
    exchange(pairs, chosen, slack, relaxed.prices)
    return chosen, slack.exact


class Slack:
    """What rows have left, in exact units; `swap` keeps it."""

    def __init__(self, pairs: Pairs, left: list[int | None]) -> None:
        self.exact = list(left)
        self._rows = [
            [(int(r), units(pairs.use[r, p])) for r in np.flatnonzero(pairs.use[:, p])]
            for p in range(len(pairs.user))
        ]
        self.left = np.array([np.inf if n is None else from_units(n) for n in left])

    def _change(self, swaps: list[tuple[int, int]]) -> dict[int, int]:
        change: dict[int, int] = {}
        for old, new in swaps:
            for sign, pair in ((-1, old), (1, new)):
                for row, amount in self._rows[pair] if pair >= 0 else ():
                    change[row] = change.get(row, 0) + sign * amount
        return change

    def fits(self, swaps: list[tuple[int, int]]) -> bool:
        """Whether every row still holds after taking pairs `new` for pairs `old` (-1 = none)."""
        for row, amount in self._change(swaps).items():
            left = self.exact[row]
            if left is not None and 0 < amount > left:
                return False
        return True

    def swap(self, swaps: list[tuple[int, int]]) -> None:
        """Take pairs `new` for pairs `old`."""
        for row, amount in self._change(swaps).items():
            left = self.exact[row]
            if left is not None:
                self.exact[row] = left - amount
                self.left[row] = from_units(left - amount)


def fill(pairs: Pairs, chosen: Ints, slack: Slack, prices: Floats) -> None:
    """Give pairs that raise a user's value and fit, by falling reduced gain."""
    reduced = pairs.value - prices @ pairs.use
    for pair in np.argsort(-reduced, kind="stable").tolist():
        user = pairs.user[pair]
        old = int(chosen[user])
        if old >= 0 and pairs.value[pair] <= pairs.value[old]:
            continue
        if slack.fits([(old, pair)]):
            slack.swap([(old, pair)])
            chosen[user] = pair


def exchange(pairs: Pairs, chosen: Ints, slack: Slack, prices: Floats) -> None:
    """Change `chosen` in place by moves of up to three users while that raises the value.

    A move gives a user another slot or none. Sets are tried among the moves of highest reduced
    gain (value less use at prices): all twos of many, then all threes of a few. The best set that
    fits is made, a bounded number of times.
    """
    work = max(1, len(prices))
    twos = _sets_of(int(min(_MOST_MOVES, (2.0 * _SET_WORK / work) ** 0.5)), 2)
    threes = _sets_of(int((_SET_WORK / work) ** (1.0 / 3.0)), 3)
    for _ in range(_MAX_EXCHANGES):
        moves = _moves(pairs, chosen, prices, int(twos.max()) + 1)
        made = _first_that_fits(moves, twos, slack) or _first_that_fits(moves, threes, slack)
        if not made:
            return
        slack.swap([(int(moves.old[a]), int(moves.new[a])) for a in made])
        for a in made:
            chosen[moves.user[a]] = moves.new[a]


@functools.lru_cache(maxsize=32)
def _sets_of(n_moves: int, size: int) -> Ints:
    """`(sets, size)` ascending indices below n_moves; move 0, which changes nothing, may repeat."""
    free = np.array(list(itertools.combinations(range(1, max(n_moves, 2)), size - 1)))
    lone = np.concatenate([np.zeros((len(free), 1), dtype=np.int64), free], axis=1)
    full = np.array(list(itertools.combinations(range(1, max(n_moves, 2)), size)))
    sets = np.concatenate([lone, full.reshape(-1, size)])
    sets.setflags(write=False)
    return sets


def _first_that_fits(moves: _Moves, sets: Ints, slack: Slack) -> list[int]:
    """The set of moves of highest gain > 0 that fits, without the one that changes nothing."""
    sets = sets[sets[:, -1] < len(moves.user)]
    gain = moves.gain[sets].sum(axis=1)
    sets, gain = sets[gain > 0], gain[gain > 0]
    for row in np.flatnonzero(np.isfinite(slack.left)):
        room = slack.left[row] + 1e-9 * abs(slack.left[row])
        can = moves.use[row][sets].sum(axis=1) <= room
        sets, gain = sets[can], gain[can]
    for at in np.argsort(-gain, kind="stable")[:_MOST_TRIED].tolist():
        made = [a for a in sets[at].tolist() if a]
        users = moves.user[made]
        swaps = [(int(moves.old[a]), int(moves.new[a])) for a in made]
        if len(set(users.tolist())) == len(made) and slack.fits(swaps):
            return made
    return []


class _Moves(NamedTuple):
    """Single moves: pair `old` to pair `new` (-1 = none) of a user; the first changes nothing."""

    user: Ints
    old: Ints
    new: Ints
    gain: Floats
    use: Floats


def _moves(pairs: Pairs, chosen: Ints, prices: Floats, n_moves: int) -> _Moves:
    """The moves of highest reduced gain, after one that changes nothing."""
    holders = np.flatnonzero(chosen >= 0)
    user = np.concatenate([pairs.user, holders])
    new = np.concatenate([np.arange(len(pairs.user)), np.full(len(holders), -1)])
    old = chosen[user]
    changes = old != new
    user, new, old = user[changes], new[changes], old[changes]
    value = np.append(pairs.value, 0.0)  # index -1: none
    use = np.concatenate([pairs.use, np.zeros((len(prices), 1))], axis=1)
    gain, more = value[new] - value[old], use[:, new] - use[:, old]
    kept = np.argsort(prices @ more - gain, kind="stable")[: n_moves - 1]
    nothing = np.array([-1])
    return _Moves(
        np.concatenate([nothing, user[kept]]),
        np.concatenate([nothing, old[kept]]),
        np.concatenate([nothing, new[kept]]),
        np.concatenate([np.zeros(1), gain[kept]]),
        np.concatenate([np.zeros((len(prices), 1)), more[:, kept]], axis=1),
    )
