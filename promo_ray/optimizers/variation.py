"""The classic operators of genetic algorithms on batched populations.

Selection gives row numbers of a population that is sorted best first. Crossover takes the
parents a and b `(*batch, pairs, genes)` to two children each. Mutation changes individuals
`(*batch, pop, genes)`. What leaves the bounds is brought back by `SearchSpace.snap`.

The distribution indices are one less than a power of two, so that every power is a chain of
square roots: exact in IEEE arithmetic, hence the same bits in any batch, and much faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from promo_ray.optimizers.draws import Draws, below_of, unit_of
from promo_ray.optimizers.space import SearchSpace, Table

SELECTIONS = ("tournament", "roulette", "rank")
CROSSOVERS = ("sbx", "single_point", "multi_point", "uniform", "slot")
POINT_MUTATIONS = ("polynomial", "grid_step")
ORDER_MUTATIONS = ("swap", "insert", "inversion")


def tournament(draws: Draws, n: int, k: int, rounds: int) -> Tensor:
    """Winners of k tournaments between `rounds` of n rows: `(*batch, k)` int64."""
    return draws.below(n, rounds, k).amin(-2)


def linear_rank(draws: Draws, n: int, k: int, pressure: float) -> Tensor:
    """Rows, the best `pressure` times as likely as the mean, the worst 2 - pressure times.

    Source: Baker 1985, linear ranking; by inversion of its quadratic distribution function.
    """
    u = draws.uniform(k)
    slope = pressure - 1
    if slope == 0:
        share = u
    else:
        share = (pressure - torch.sqrt(pressure**2 - 4 * slope * u)) / (2 * slope)
    return (share * n).long().clamp(0, n - 1)


def roulette(draws: Draws, fitness: Tensor, violation: Tensor, k: int) -> Tensor:
    """Rows with a probability in proportion to fitness above the worst finite one.

    Rows that are not feasible or not finite are left out; without two different feasible
    fitnesses all rows are alike. Source: Holland 1975.
    """
    counts = torch.isfinite(fitness) & (violation == 0)
    floor = torch.where(counts, fitness, torch.inf).amin(-1, keepdim=True)
    weight = torch.where(counts, fitness - floor, 0).double()
    total = weight.sum(-1, keepdim=True)
    weight = torch.where(total > 0, weight, 1.0)
    edges = weight.cumsum(-1)
    point = draws.uniform(k).double() * edges[..., -1:]
    found = torch.searchsorted(edges.contiguous(), point.contiguous(), right=True)
    return found.clamp(max=fitness.shape[-1] - 1)


def sbx(a: Tensor, b: Tensor, words: Tensor, crosses: Tensor, eta: int) -> tuple[Tensor, Tensor]:
    """Simulated binary crossover (Deb and Agrawal 1995), half of the genes exchanged.

    The bits of a word decide in turn: exchange this gene at all, swap the children, contract or
    expand, and by how much (21 bits).

    Args:
        a: `(*batch, pairs, genes)` parents.
        b: the other parents.
        words: int32 of the same shape.
        crosses: `(*batch, pairs, 1)` bool, pairs that exchange genes.
        eta: distribution index.
    """
    w = ((words >> 8) & 0x1FFFFF).to(a.dtype) * 2.0**-21
    expands = ((words >> 29) & 1) == 1
    root = power_root(torch.where(expands, 1 - w, w), eta).clamp(min=1e-3)
    factor = torch.where(expands, 1 / root, root)
    factor = torch.where(((words >> 30) & 1) == 1, -factor, factor)
    middle, half = (a + b) * 0.5, (a - b) * 0.5 * factor
    blends = (words >= 0) & crosses
    return torch.where(blends, middle + half, a), torch.where(blends, middle - half, b)


def power_root(x: Tensor, eta: int) -> Tensor:
    """`x ** (1 / (eta + 1))` for eta + 1 a power of two, every root correctly rounded."""
    if x.device.type != "cpu":
        for _ in range(eta.bit_length()):
            x = x.sqrt()
        return x
    # torch.sqrt rounds as the vector library it was built with, NumPy as IEEE wants
    values = x.numpy()
    for _ in range(eta.bit_length()):
        values = np.sqrt(values)
    return torch.from_numpy(values)


def exchange_mask(draws: Draws, kind: str, n_pairs: int, table: Table, n_points: int) -> Tensor:
    """Genes that a pair exchanges, `(*batch, pairs, genes)` bool."""
    d = len(table.slot)
    if kind == "uniform":
        return draws.words(n_pairs, d) < 0
    if kind == "slot":
        n_slots = int(table.slot[-1]) + 1
        return (draws.words(n_pairs, n_slots) < 0)[..., table.slot]
    points = 1 if kind == "single_point" else n_points
    cuts = draws.below(max(d - 1, 1), n_pairs, points) + 1
    place = torch.arange(d, device=cuts.device)
    is_odd = torch.zeros((*cuts.shape[:-1], d), dtype=torch.bool, device=cuts.device)
    for cut in cuts.unbind(-1):
        is_odd ^= place >= cut.unsqueeze(-1)
    return is_odd


def exchanged(a: Tensor, b: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Children of parents that exchange the genes of a mask."""
    return torch.where(mask, b, a), torch.where(mask, a, b)


def cross_sets(draws: Draws, a: Tensor, b: Tensor) -> Tensor:
    """A set from the union of two: common items are kept, the rest drawn.

    Args:
        draws: random numbers.
        a: `(*batch, pairs, size)` different item numbers.
        b: the other sets.
    """
    size = a.shape[-1]
    both, _ = torch.cat([a, b], dim=-1).sort(dim=-1)
    equal = both[..., 1:] == both[..., :-1]
    edge = torch.zeros_like(equal[..., :1])
    is_repeat, is_common = torch.cat([edge, equal], -1), torch.cat([equal, edge], -1)
    priority = draws.unit(*both.shape[-2:]) - is_common.to(a.dtype) + 2 * is_repeat.to(a.dtype)
    chosen = priority.argsort(dim=-1, stable=True)[..., :size]
    return both.gather(-1, chosen).sort(dim=-1).values


def polynomial_step(words: Tensor, rate: float, eta: int, dtype: torch.dtype) -> Tensor:
    """Polynomial mutation as a share of each gene's range, in (-1, 1); 0 where none.

    Source: Deb and Goyal 1996.

    Args:
        words: `(*batch, pop, genes)` int32; below `rate` the gene mutates.
        rate: share of genes that mutate.
        eta: distribution index.
        dtype: of the steps.
    """
    u = unit_of(words, dtype)
    if rate == 0:
        return torch.zeros_like(u)
    w = (u * (1 / rate)).clamp(max=1)
    root = power_root(2 * torch.minimum(w, 1 - w), eta)
    size = (1 - root) * (u < rate).to(dtype)
    return torch.where(w < 0.5, -size, size)


def grid_step(x: Tensor, words: Tensor, rate: float, table: Table, n_steps: int) -> Tensor:
    """Genes moved by a few steps: 1 of whole numbers, a share of the range of real ones.

    The number of steps is geometric with mean 2; both directions are alike.

    Args:
        x: `(*batch, pop, genes)`.
        words: int32 of that shape.
        rate: share of genes that move.
        table: the space.
        n_steps: steps that make up the range of a real gene.
    """
    w = unit_of(words, torch.float64) / max(rate, 1e-30)
    moves = w < 1
    sign = torch.where(w < 0.5, -1.0, 1.0)
    rest = (2 * w) % 1
    count = torch.floor(torch.log2(1 / (1 - rest.clamp(max=1 - 2.0**-20)))) + 1
    step = torch.where(table.is_whole, 1.0, (table.upper - table.lower) / n_steps)
    return x + torch.where(moves, sign * count, 0).to(x.dtype) * step


def reset(x: Tensor, words: Tensor, pick: Tensor, rate: float, table: Table) -> Tensor:
    """Unordered genes drawn anew with a rate; the others stay."""
    again = (unit_of(words, x.dtype) < rate) & table.is_unordered
    width = table.high - table.low
    return torch.where(again, table.low + unit_of(pick, x.dtype) * width, x)


def reordered(draws: Draws, kind: str, x: Tensor, rate: float) -> Tensor:
    """Swap two genes, insert one elsewhere, or turn a stretch round, in a share of individuals.

    Moves for genes of equal bounds: sequences and random keys of permutations.
    """
    n, d = x.shape[-2:]
    words = draws.words(n, 3)
    i, j = below_of(words[..., :1], d), below_of(words[..., 1:2], d)
    place = torch.arange(d, device=x.device).expand(x.shape)
    low, high = torch.minimum(i, j), torch.maximum(i, j)
    source = _SOURCES[kind](place, i, j, low, high)
    moves = unit_of(words[..., 2:], x.dtype) < rate
    return x.gather(-1, torch.where(moves, source, place))


def _swap(place: Tensor, i: Tensor, j: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.where(place == i, j, torch.where(place == j, i, place))


def _insert(place: Tensor, i: Tensor, j: Tensor, low: Tensor, high: Tensor) -> Tensor:
    inside = (place >= low) & (place <= high)
    shifted = torch.where(i < j, place + 1, place - 1)
    return torch.where(place == j, i, torch.where(inside, shifted, place))


def _inversion(place: Tensor, i: Tensor, j: Tensor, low: Tensor, high: Tensor) -> Tensor:
    inside = (place >= low) & (place <= high)
    return torch.where(inside, low + high - place, place)


_SOURCES: dict[str, Callable[..., Tensor]] = {
    "swap": _swap,
    "insert": _insert,
    "inversion": _inversion,
}


def crossed(
    draws: Draws, space: SearchSpace, a: Tensor, b: Tensor, *, kind: str, **options: Any
) -> Tensor:
    """Children `(*batch, 2 * pairs, genes)` of parents, each gene by what its kind allows.

    Args:
        draws: random numbers.
        space: kinds of the genes; numbers of choices are exchanged and never blended, subsets
            draw from the union of both.
        a: `(*batch, pairs, genes)` parents.
        b: the other parents.
        kind: one of `CROSSOVERS`.
        options: `rate` of pairs, `eta` of sbx, `n_points` of multi_point.
    """
    table = space.table(a.device, a.dtype)
    n, d = a.shape[-2:]
    crosses = draws.unit(n, 1) < options["rate"]
    if kind == "sbx":
        words = draws.words(n, d)
        children = sbx(a, b, words, crosses, options["eta"])
        if not space.is_real:
            # the highest bit says whether a gene is exchanged, the next whether they swap
            mask = (words >= 0) & (((words >> 30) & 1) == 1) & crosses
            swapped = exchanged(a, b, mask)
            children = (
                torch.where(table.is_unordered, swapped[0], children[0]),
                torch.where(table.is_unordered, swapped[1], children[1]),
            )
    else:
        mask = exchange_mask(draws, kind, n, table, options["n_points"]) & crosses
        children = exchanged(a, b, mask)
    both = torch.cat(children, dim=-2)
    for at, size, _ in space.subsets:
        own = slice(at, at + size)
        pair = a[..., own], b[..., own]
        sets = [torch.where(crosses, cross_sets(draws, *pair), old) for old in pair]
        both = torch.cat([both[..., :at], torch.cat(sets, dim=-2), both[..., at + size :]], dim=-1)
    return both
