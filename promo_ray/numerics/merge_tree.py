"""Fixed binary merge tree over shard results.

Floating-point sums depend on their order. Here the order is a property of the number of leaves
alone: leaf i merges with its sibling, then pairs of pairs, and so on. A worker merges the
complete subtrees that it owns, the driver the rest; the result is the same bits for any split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

S = TypeVar("S")
Node = tuple[int, int]  # (level, index); leaf i is (0, i)


def partial_merge(
    nodes: Mapping[Node, S], n_leaves: int, merge: Callable[[S, S], S]
) -> dict[Node, S]:
    """Merge every pair of siblings at hand, repeatedly.

    Args:
        nodes: values by (level, index); a node covers leaves [index * 2**level, ...).
        n_leaves: leaves of the whole tree.
        merge: associative up to rounding; called as merge(left, right).

    Returns:
        Values of the maximal subtrees that `nodes` cover. An only child (at the right edge of a
        tree whose size is no power of two) moves up unchanged.
    """
    level_nodes: dict[Node, S] = dict(nodes)
    level = 0
    width = n_leaves
    while width > 1:
        for index in sorted(i for lvl, i in level_nodes if lvl == level and i % 2 == 0):
            left, right = (level, index), (level, index + 1)
            if right in level_nodes:
                value = merge(level_nodes.pop(left), level_nodes.pop(right))
            elif index + 1 >= width:
                value = level_nodes.pop(left)
            else:
                continue
            level_nodes[level + 1, index // 2] = value
        level += 1
        width = (width + 1) // 2
    return level_nodes


def tree_reduce(values: list[S], merge: Callable[[S, S], S]) -> S:
    """Merge a list in the order of the fixed tree.

    Raises:
        ValueError: the list is empty.
    """
    if not values:
        raise ValueError("tree_reduce needs at least one value; got none")
    nodes = partial_merge({(0, i): v for i, v in enumerate(values)}, len(values), merge)
    (root,) = nodes.values()
    return root
