"""The first pass: facts about all users that scale the search, and a sample of them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.allocation.exact import total
from promo_ray.allocation.kernel import Floats, Ints, Users, Where
from promo_ray.allocation.native import address, library
from promo_ray.allocation.problem import Block

_BLOCK_USERS = 1 << 16  # users looked at in one go; bounds the scratch of a large block


class Sample(NamedTuple):
    """Users drawn from all blocks, by three rules of which one is enough.

    Attributes:
        users: the users with their keys; None until they are fetched.
        position: `(s,)` int64 position among all users, ascending.
        draw: `(s,)` float64 uniform number of each user's key.
        top: `(s,)` float32 best positive value.
        segment: `(s,)` int32, -1 = none.
        bars: `(2 + n_segments,)` float64. A user is in if draw < bars[0] (by head), or
            draw < bars[1] * top (by value: users of heavy tails are in for certain), or
            draw < bars[2 + segment] (by segment: rare segments are seen).
    """

    users: Block | None
    position: Ints
    draw: Floats
    top: NDArray[np.float32]
    segment: NDArray[np.int32]
    bars: Floats

    @property
    def weight(self) -> Floats:
        """`(s,)` inverse of the chance to be drawn (Horvitz and Thompson 1952)."""
        return 1.0 / np.minimum(1.0, chance(self, self.bars))

    def thinned(self, share: float) -> tuple[Ints, Floats]:
        """Indices of users whose draw is within `share` of their chance, and their weights."""
        chances = np.minimum(1.0, share * chance(self, self.bars))
        kept = np.flatnonzero(self.draw < chances)
        return kept, 1.0 / chances[kept]


def chance(sample: Sample, bars: Floats) -> Floats:
    """`(s,)` highest bar of each user: the largest draw that is still in."""
    top = sample.top.astype(np.float64)
    by_value = np.multiply(bars[1], top, out=np.zeros(len(top)), where=top > 0)
    highest = np.maximum(bars[0], by_value)
    if len(bars) > 2:
        highest = np.maximum(highest, np.append(bars[2:], 0.0)[sample.segment])
    return np.asarray(highest)


class Survey(NamedTuple):
    """Facts about all users.

    Attributes:
        n_users: number of users.
        parts: `(1 + R, 256)` int64 exact value and use when each user takes the best positive
            value; for floors the number of users who have any offer.
        highest: `(R,)` largest value / use of a pair: no taker above this price.
        largest: `(R,)` largest use by a pair.
        smallest: `(R,)` smallest positive use by a pair, infinite if none.
        largest_value: largest absolute value of a pair.
        n_bad: pairs that break a rule (NaN or infinite value, use not finite or negative, unknown
            offer or segment).
        sample: users drawn.
    """

    n_users: int
    parts: Ints
    highest: Floats
    largest: Floats
    smallest: Floats
    largest_value: float
    n_bad: int
    sample: Sample

    @property
    def best(self) -> float:
        """Sum over users of the best positive value."""
        return total(self.parts[0])

    @property
    def use(self) -> Floats:
        """`(R,)` use of each row when each user takes the best positive value."""
        return np.array([total(p) for p in self.parts[1:]])


def survey(block: Block, where: Where, n_wanted: int, most_draw: float) -> Survey:
    """Facts about the users of a block, and a sample of them.

    Args:
        block: users.
        where: rows and seed.
        n_wanted: users wanted by head, over all blocks.
        most_draw: bar by head to begin with: well above the one that gives `n_wanted`.
    """
    found: Survey | None = None
    for a in range(0, max(1, len(block.value)), _BLOCK_USERS):
        part = _survey(cut(block, a, a + _BLOCK_USERS), where, n_wanted, most_draw)
        found = part if found is None else merge_surveys(n_wanted, found, part)
    if found is None:
        raise ValueError("a block must have a part")
    return found


def _survey(block: Block, where: Where, n_wanted: int, most_draw: float) -> Survey:
    users, r = Users(block, where), where.rows.n
    highest, largest = np.zeros(r), np.zeros(r)
    smallest, value = np.full(r, np.inf), np.zeros(1)
    parts, bad = np.zeros((1 + r, 256), dtype=np.int64), np.zeros(1, dtype=np.int64)
    top, draw = np.empty(users.n, dtype=np.float32), np.empty(users.n)
    arrays = (highest, largest, smallest, value, parts, bad, top, draw)
    library().promo_survey(ctypes.byref(users.struct), *[address(x) for x in arrays])
    largest[where.rows.n_packing :] = 1.0
    segment = np.full(users.n, -1, dtype=np.int32)
    if where.rows.n_segments and block.segment_idx is not None:
        segment = block.segment_idx
    bars = np.full(2 + where.rows.n_segments, np.inf)
    bars[0] = most_draw
    whole = Sample(None, np.arange(users.n), draw, top, segment, bars)
    facts = (users.n, parts, highest, largest, smallest, float(value[0]), int(bad[0]))
    return Survey(*facts, _shrunk(whole, users.n, n_wanted))


def _shrunk(sample: Sample, n_users: int, n_wanted: int) -> Sample:
    """Lower the bars until each rule takes no more than its share of the users seen so far."""
    n_segments = len(sample.bars) - 2
    if n_users <= n_wanted:  # everyone
        return sample
    bars = sample.bars.copy()
    bars[0] = min(bars[0], _nth(sample.draw, n_wanted))
    top = sample.top.astype(np.float64)
    ratio = np.divide(sample.draw, top, out=np.full(len(top), np.inf), where=top > 0)
    bars[1] = min(bars[1], _nth(ratio, n_wanted // 16))
    for g in range(n_segments):
        own = sample.draw[sample.segment == g]
        bars[2 + g] = min(bars[2 + g], _nth(own, max(8, n_wanted // 8 // n_segments)))
    kept = np.flatnonzero(sample.draw < chance(sample, bars))
    return Sample(
        None,
        sample.position[kept],
        sample.draw[kept],
        sample.top[kept],
        sample.segment[kept],
        bars,
    )


def _nth(values: Floats, n: int) -> float:
    """The value that n of them lie below; infinite if there are no more than n."""
    return float(np.partition(values, n)[n]) if len(values) > n else np.inf


def merge_surveys(n_wanted: int, a: Survey, b: Survey) -> Survey:
    """Facts about two runs of blocks, the second after the first."""
    bars = np.minimum(a.sample.bars, b.sample.bars)
    both = Sample(
        None,
        np.concatenate([a.sample.position, b.sample.position + a.n_users]),
        np.concatenate([a.sample.draw, b.sample.draw]),
        np.concatenate([a.sample.top, b.sample.top]),
        np.concatenate([a.sample.segment, b.sample.segment]),
        bars,
    )
    return Survey(
        a.n_users + b.n_users,
        a.parts + b.parts,
        np.maximum(a.highest, b.highest),
        np.maximum(a.largest, b.largest),
        np.minimum(a.smallest, b.smallest),
        max(a.largest_value, b.largest_value),
        a.n_bad + b.n_bad,
        _shrunk(both, a.n_users + b.n_users, n_wanted),
    )


def cut(block: Block, start: int, stop: int) -> Block:
    """Users [start, stop) of a block, as views."""
    if start == 0 and stop >= len(block.value):
        return block
    return Block(
        block.value[start:stop],
        block.costs[:, start:stop],
        None if block.keys is None else block.keys[start:stop],
        None if block.offer_idx is None else block.offer_idx[start:stop],
        None if block.capacity_use is None else block.capacity_use[start:stop],
        None if block.segment_idx is None else block.segment_idx[start:stop],
        block.first + start,
    )


def take(block: Block, at: Ints) -> Block:
    """Copies of some users of a block, with keys."""
    keys = block.keys
    return Block(
        block.value[at],
        np.ascontiguousarray(block.costs[:, at]),
        np.asarray(at + block.first, dtype=np.uint64) if keys is None else keys[at],
        None if block.offer_idx is None else block.offer_idx[at],
        None if block.capacity_use is None else block.capacity_use[at],
        None if block.segment_idx is None else block.segment_idx[at],
    )


def join(parts: Sequence[Block]) -> Block:
    """Users of blocks, all with keys."""

    def whole(name: str, axis: int = 0) -> Any:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays, axis=axis)

    names = ("keys", "offer_idx", "capacity_use", "segment_idx")
    return Block(whole("value"), whole("costs", axis=1), *(whole(name) for name in names))
