"""Local search of menus: evaluation that counts, neighbors of a menu, and climbing among them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promo_ray.design.fitness import MenuFitness, padded
from promo_ray.design.genome import GENES, MenuSpace
from promo_ray.optimizers.space import pick_device

Menu = tuple[int, ...]
_MOST_STALE = 50
_STEP = 64  # neighbors looked at before the best of them is taken


class Scored(NamedTuple):
    """A menu and its value per user on the search sample."""

    menu: Menu
    value: float


class Evaluator:
    """Values menus once each, and counts; travels without what it has seen.

    Attributes:
        values: value of every menu seen; changes speed and no result.
        n_evals: menus evaluated.
    """

    def __init__(self, space: MenuSpace, fitness: MenuFitness, device: str = "cpu") -> None:
        self.space, self.fitness, self.device = space, fitness, pick_device(device)
        self.values: dict[Menu, float] = {}
        self.n_evals = 0

    def __call__(self, menus: Sequence[Menu], device: Any = None) -> list[float]:
        """Values of menus, which keep the constraints; on the evaluator's device if None."""
        new = [menu for menu in dict.fromkeys(menus) if menu not in self.values]
        if new:
            found = self.fitness(
                padded(new, self.space.max_offers).to(device or self.device)
            ).tolist()
            self.values.update(zip(new, found, strict=True))
            self.n_evals += len(new)
        return [self.values[menu] for menu in menus]

    def of_genes(self, x: Tensor) -> Tensor:
        """Values of the menus of genes: `(pop, genes)` to `(pop,)` float64."""
        rows = self.space.decode(x).tolist()
        found = self([tuple(v for v in row if v >= 0) for row in rows], x.device)
        return torch.tensor(found, dtype=torch.float64, device=x.device)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "values": {}}

    def best(self, n: int) -> list[Scored]:
        """The best menus seen; ties to the shorter, then the first."""
        order = sorted(self.values.items(), key=lambda p: (-p[1], len(p[0]), p[0]))
        return [Scored(*pair) for pair in order[:n]]


def mended(space: MenuSpace, menus: Iterable[Sequence[int]]) -> list[Menu]:
    """Menus that keep the constraints, in canonical form, each once, in order."""
    rows = list(menus)
    if not rows:
        return []
    found = space.mend(padded(rows)).tolist()
    return list(dict.fromkeys(tuple(v for v in row if v >= 0) for row in found))


def neighbors(space: MenuSpace, menu: Menu, pool: Sequence[int]) -> list[Menu]:
    """Menus one step away: an offer less, one gene of one offer changed, or one more offer.

    Args:
        space: where menus live.
        menu: the menu.
        pool: offers that may be added or take the place of one.
    """
    found: list[Menu] = [menu[:i] + menu[i + 1 :] for i in range(len(menu))]
    changed = [one_gene_away(space, v) for v in menu]
    for i, options in enumerate(changed):
        rest = menu[:i] + menu[i + 1 :]
        found += [(*rest, v) for v in (*options, *pool)]
    if len(menu) < space.max_offers:
        others = dict.fromkeys([*pool, *(v for options in changed for v in options)])
        found += [(*menu, v) for v in others]
    return [m for m in mended(space, found) if m != menu]


def one_gene_away(space: MenuSpace, variant: int) -> list[int]:
    """Variants that differ in one gene, each once."""
    own = space.genes_of(np.array([variant]))[0]
    slots = []
    for k in range(1, len(GENES)):
        for other in range(space.n_values[k]):
            slot = own.copy()
            slot[k] = other
            slots.append(slot)
    found = space.variants_of(np.array(slots)).tolist()
    return [v for v in dict.fromkeys(found) if v != variant]


def climb(
    evaluate: Evaluator,
    start: Scored,
    pool: Sequence[int],
    max_evals: int,
    rng: np.random.Generator,
) -> Scored:
    """Iterated local search: climb to a peak, jump away from the best, climb again.

    Source: Lourenco, Martin and Stutzle 2003.

    Args:
        evaluate: values menus.
        start: where to start.
        pool: offers that may be added, most promising first.
        max_evals: evaluations at most.
        rng: order of neighbors, and jumps.
    """
    limit = evaluate.n_evals + max_evals
    best = here = start
    n_stale = 0  # jumps in turn that met nothing new: all there is may be known
    while evaluate.n_evals < limit and n_stale < _MOST_STALE:
        before = evaluate.n_evals
        here = _peak(evaluate, here, pool, limit, rng)
        if here.value > best.value:
            best = here
        if evaluate.n_evals >= limit:
            break
        jumped = _jump(evaluate.space, best.menu, pool, rng)
        here = Scored(jumped, evaluate([jumped])[0])
        n_stale = n_stale + 1 if evaluate.n_evals == before else 0
    return best


def _peak(
    evaluate: Evaluator, here: Scored, pool: Sequence[int], limit: int, rng: np.random.Generator
) -> Scored:
    while True:
        near = neighbors(evaluate.space, here.menu, pool)
        order = rng.permutation(len(near))
        for start in range(0, len(near), _STEP):
            left = limit - evaluate.n_evals
            part = [near[i] for i in order[start : start + min(_STEP, max(0, left))]]
            if not part:
                return here
            values = evaluate(part)
            at = int(np.argmax(values))
            if values[at] > here.value:
                here = Scored(part[at], values[at])
                break
        else:
            return here


def _jump(space: MenuSpace, menu: Menu, pool: Sequence[int], rng: np.random.Generator) -> Menu:
    """Two offers of the menu replaced, by those of the pool or by any."""
    kept = [menu[i] for i in rng.permutation(len(menu))[2:]]
    drawn: list[int] = []
    for _ in range(min(2, space.max_offers)):
        is_known = len(pool) and rng.random() < 0.5
        drawn.append(int(rng.choice(pool) if is_known else rng.integers(space.n_offers)))
    found: list[Menu] = mended(space, [[*kept, *drawn]])
    return found[0]


def lp_menu(value: NDArray[np.float64], offers: Sequence[int], slots: int) -> Menu:
    """Offers that carry the most value in an allocation without a limit on their number.

    Args:
        value: `(offers,)` value that each carries.
        offers: their numbers.
        slots: offers in the menu at most.
    """
    order = np.argsort(-value, kind="stable")[:slots]
    return tuple(sorted(int(offers[i]) for i in order if value[i] > 0))
