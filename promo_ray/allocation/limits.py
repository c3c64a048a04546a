"""Offers per user: at most max_offers, and laminar groups of offers with limits of their own."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.errors import DataError

_MOST_OFFERS = 1 << 24  # that groups may name where nothing else says how many there are


class UserLimits(NamedTuple):
    """Tree of limits per user; node 0 is the root, parents come before children.

    Attributes:
        limit: `(g,)` most offers of a user within each node; the root's is max_offers.
        parent: `(g,)` parent of each node, -1 for the root.
        node_of_offer: smallest node that holds each offer; empty without groups: the root.
    """

    limit: tuple[int, ...]
    parent: tuple[int, ...]
    node_of_offer: tuple[int, ...]

    @property
    def max_offers(self) -> int:
        """Most offers of a user."""
        return self.limit[0]

    @property
    def is_single(self) -> bool:
        """Whether a user gets at most one offer and any offer may be it."""
        return self.limit == (1,)

    def nodes(self, n_offers: int) -> NDArray[np.int32]:
        """`(n_offers,)` int32 node of each offer, the root for offers in no group."""
        found = np.zeros(max(n_offers, len(self.node_of_offer)), dtype=np.int32)
        found[: len(self.node_of_offer)] = self.node_of_offer
        return found


def user_limits(
    max_offers: int, groups: Sequence[tuple[Sequence[int], int]] | None, n_offers: int | None
) -> UserLimits:
    """Tree of limits.

    Args:
        max_offers: most offers of a user, >= 1.
        groups: pairs (offers, limit); the sets of offers must be nested or disjoint.
        n_offers: number of offers; None: those that groups name.

    Raises:
        DataError: a group names an unknown offer, has a negative limit, or crosses another.
    """
    if not groups:
        return UserLimits((max_offers,), (-1,), ())
    sets: list[tuple[frozenset[int], int]] = []
    for i, group in enumerate(groups):
        where = f"groups[{i}]"
        own, limit = _group(group, n_offers, where)
        for j, (other, _) in enumerate(sets):
            if own & other and not (own <= other or other <= own):
                raise DataError(
                    f"must be nested in groups[{j}] or disjoint from it; they share "
                    f"{sorted(own & other)}",
                    where=where,
                )
        sets.append((own, limit))
    sets.sort(key=lambda s: (-len(s[0]), sorted(s[0])))
    n_named = 1 + max((max(own, default=-1) for own, _ in sets), default=-1)
    limits, parent, node = [max_offers], [-1], [0] * n_named
    members = [frozenset(range(n_named))]
    for own, most in sets:
        above = max(i for i, held in enumerate(members) if own <= held)
        limits.append(most)
        parent.append(above)
        members.append(own)
        for offer in own:
            node[offer] = len(limits) - 1
    return UserLimits(tuple(limits), tuple(parent), tuple(node))


def _group(group: Any, n_offers: int | None, where: str) -> tuple[frozenset[int], int]:
    """Offers and limit of a group.

    Raises:
        DataError: it is not a pair of offers in range and an integer limit >= 0.
    """
    try:
        offers, limit = group
        own = frozenset(operator.index(o) for o in offers)
        most = operator.index(limit)
    except (TypeError, ValueError):
        raise DataError(
            f"must be (integer offers, integer limit); got {group!r}", where=where
        ) from None
    end = _MOST_OFFERS if n_offers is None else n_offers
    if own and (min(own) < 0 or max(own) >= end):
        raise DataError(f"must name offers in [0, {end}); got {sorted(own)}", where=where)
    if most < 0:
        raise DataError(f"must have a limit >= 0; got {most}", where=where)
    return own, min(most, _MOST_OFFERS)
