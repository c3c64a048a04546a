"""Bundles proposed from what is bought together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix

from promo_ray.errors import ConfigError, DataError


class Bundle(NamedTuple):
    """Items that are bought together more often than by chance.

    Attributes:
        items: ids, sorted.
        n_orders: orders that hold them all.
        lift: n_orders over what independent items would give.
        leverage: share of orders beyond what independent items would give.
    """

    items: tuple[str, ...]
    n_orders: int
    lift: float
    leverage: float


def propose_bundles(
    orders: ArrayLike,
    items: ArrayLike,
    *,
    n_bundles: int = 20,
    sizes: Sequence[int] = (2, 3),
    min_orders: int = 5,
    most_items: int = 500,
) -> list[Bundle]:
    """Item sets of the largest leverage, best first; ties by ids.

    Source: Piatetsky-Shapiro 1991 (leverage), which favors sets that are both frequent and bound
    together, where lift alone favors the rarest. Sets of three and more grow from the best pairs.

    Args:
        orders: `(n,)` order of each line.
        items: `(n,)` item id of each line.
        n_bundles: sets at most, >= 1.
        sizes: items in a set, each in [2, 5].
        min_orders: orders that hold a set at least, >= 1.
        most_items: items looked at, the most frequent ones.

    Raises:
        ConfigError: a setting out of range.
        DataError: orders and items differ in length.
    """
    order, item = np.asarray(orders), np.asarray(items)
    if order.shape != item.shape or order.ndim != 1:
        raise DataError(f"must be as many; got {order.shape}, {item.shape}", where="orders, items")
    if n_bundles < 1 or min_orders < 1 or not all(2 <= s <= 5 for s in sizes):
        raise ConfigError(
            "n_bundles >= 1, min_orders >= 1 and sizes in [2, 5] must hold; "
            f"got {n_bundles}, {min_orders}, {tuple(sizes)}"
        )
    if not len(order):
        return []
    _, row = np.unique(order, return_inverse=True)
    names, column = np.unique(item.astype(str), return_inverse=True)
    held = csr_matrix((np.ones(len(row)), (row, column)), shape=(row.max() + 1, len(names)))
    held.data[:] = 1.0
    counts = np.asarray(held.sum(axis=0)).ravel()
    common = np.sort(np.argsort(-counts, kind="stable")[:most_items])
    held, names, counts = held[:, common].tocsc(), names[common], counts[common]
    together = np.triu((held.T @ held).toarray(), 1)
    pairs = [tuple(p) for p in np.argwhere(together >= min_orders).tolist()]
    n_orders = held.shape[0]
    found = {p: int(together[p]) for p in pairs}
    seeds = sorted(pairs, key=lambda p: (-_leverage(found[p], p, counts, n_orders), p))
    level = seeds[: 4 * n_bundles]
    for _ in range(2, max(sizes)):
        level = _grown(level, held, found, min_orders)
    bundles = [_bundle(s, k, names, counts, n_orders) for s, k in found.items() if len(s) in sizes]
    bundles = [b for b in bundles if b.leverage > 0]
    return sorted(bundles, key=lambda b: (-b.leverage, b.items))[:n_bundles]


def _grown(
    level: Sequence[tuple[int, ...]],
    held: csr_matrix,
    found: dict[tuple[int, ...], int],
    min_orders: int,
) -> list[tuple[int, ...]]:
    """Sets of one more item, all of whose pairs are common; their counts go to `found`."""
    grown = []
    partners = sorted({i for s in level for i in s})
    for base, extra in itertools.product(level, partners):
        bigger = tuple(sorted({*base, extra}))
        if len(bigger) == len(base) or bigger in found:
            continue
        if not all(p in found for p in itertools.combinations(bigger, 2)):
            continue
        inside = np.asarray(held[:, list(bigger)].sum(axis=1)).ravel() == len(bigger)
        if inside.sum() >= min_orders:
            found[bigger] = int(inside.sum())
            grown.append(bigger)
    return grown


def _chance(items: tuple[int, ...], counts: np.ndarray, n_orders: int) -> float:
    return float(np.prod(counts[list(items)] / n_orders))


def _leverage(n: int, items: tuple[int, ...], counts: np.ndarray, n_orders: int) -> float:
    return n / n_orders - _chance(items, counts, n_orders)


def _bundle(
    items: tuple[int, ...], n: int, names: np.ndarray, counts: np.ndarray, n_orders: int
) -> Bundle:
    chance = _chance(items, counts, n_orders)
    return Bundle(
        tuple(str(names[i]) for i in items), n, n / n_orders / chance, n / n_orders - chance
    )
