"""Design of a menu: enumerate if menus are few, else search by islands; judge the winner."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from promo_ray.design.fitness import MenuFitness
from promo_ray.design.genome import MenuSpace
from promo_ray.design.grid import OfferGrid
from promo_ray.design.judge import Judgement, Sample, best_single, judge_menu
from promo_ray.errors import DataError
from promo_ray.execution import Executor
from promo_ray.execution.threads import single_threaded
from promo_ray.optimizers import Optimizer, optimize_islands
from promo_ray.registry import build
from promo_ray.telemetry import SILENT, Progress

# what a method's name means here: small populations, since menus are few and fitness is exact;
# mutation wide enough to leave a cell of the grid; rings, that swarms agree later
_TUNED: dict[str, dict[str, Any]] = {
    "ga": {"pop_size": 50, "mutation_eta": 1, "mutation_rate": 0.1},
    "pso": {"pop_size": 50, "neighborhood": "ring"},
}


@dataclass(frozen=True)
class MenuResult:
    """A designed menu.

    Attributes:
        menu: grid rows of its offers in rising order; empty = no offer pays.
        offer_ids: their ids.
        search_value: value per user on the search sample, less fixed costs. It was maximized, so
            it flatters the menu; `judged` does not.
        judged: value on users that the search never saw.
        n_evals: menus evaluated, repeats included.
        n_menus: menus there are.
        enumerated: every menu was evaluated, so none is better on the search sample.
        history: scalars of each round and island; empty if enumerated.
        takeovers: migrations in which an island got a new best, see
            `execution.islands_log.MIGRATIONS`; empty if enumerated.
    """

    menu: tuple[int, ...]
    offer_ids: tuple[str, ...]
    search_value: float
    judged: Judgement
    n_evals: int
    n_menus: int
    enumerated: bool
    history: tuple[dict[str, float], ...]
    takeovers: tuple[dict[str, Any], ...] = ()


@dataclass
class MenuProblem:
    """Fitness of genes; remembers menus seen, which changes speed and no result."""

    menu_space: MenuSpace
    fitness: MenuFitness
    _seen: dict[bytes, float] = field(default_factory=dict, repr=False)

    def __call__(self, x: Tensor) -> Tensor:
        """Value of the menus of genes: `(pop, genes)` to `(pop,)` float64."""
        menus = self.menu_space.decode(x)
        keys = [row.tobytes() for row in menus.cpu().numpy()]
        new = {key: i for i, key in enumerate(keys) if key not in self._seen}
        if new:
            values = self.fitness(menus[list(new.values())]).tolist()
            self._seen.update(zip(new, values, strict=True))
        found = [self._seen[key] for key in keys]
        return torch.tensor(found, dtype=torch.float64, device=x.device)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_seen": {}}


class _Found(NamedTuple):
    menu: tuple[int, ...]
    value: float
    n_evals: int
    history: tuple[dict[str, float], ...]
    takeovers: tuple[dict[str, Any], ...] = ()


def design_menu(
    search: Sample,
    judge: Sample,
    grid: OfferGrid,
    *,
    budget_per_user: float | None,
    max_offers: int = 4,
    fixed_cost: ArrayLike = 0.0,
    islands: Sequence[str | Optimizer[Any]] = ("ga", "pso", "ga", "pso"),
    max_evals: int = 10_000,
    enumerate_up_to: int = 2_000,
    migrate_every: int = 5,
    seed: int = 0,
    executor: Executor | None = None,
    checkpoint_uri: str | None = None,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> MenuResult:
    """Find the menu that is worth most under the budget.

    Args:
        search: users that menus are searched on; value estimates shrunken, not raw.
        judge: other users, who judge the winner.
        grid: candidate offers, in the order of the samples' columns.
        budget_per_user: budget over the number of users; None = unlimited.
        max_offers: offers in a menu at most, >= 1.
        fixed_cost: value lost per user of the campaign for every offer in the menu (what running
            an offer costs, over the number of users); scalar or `(g,)`, >= 0.
        islands: population methods of the islands; a name means the method tuned for menus.
        max_evals: menus evaluated by the islands at most.
        enumerate_up_to: evaluate every menu if there are no more than this.
        migrate_every: generations between migrations.
        seed: seed of the search.
        executor: where the islands run; this process if None.
        checkpoint_uri: directory for checkpoints of the islands.
        device: where fitness is computed.
        progress: told rounds done and best value.

    Raises:
        DataError: samples that do not fit the grid, NaN, or negative cost.
        ConfigError: a setting out of range.
    """
    _check_columns(search, judge, len(grid))
    fitness = MenuFitness(
        search.value, search.cost, budget_per_user=budget_per_user, fixed_cost=fixed_cost
    )
    space = MenuSpace(grid, max_offers)
    enumerated = space.n_menus <= enumerate_up_to
    if enumerated:
        with single_threaded():
            found = _enumerate(space, fitness, device)
    else:
        found = _search(
            space,
            fitness,
            islands,
            max_evals,
            migrate_every=migrate_every,
            seed=seed,
            executor=executor,
            checkpoint_uri=checkpoint_uri,
            key=_digest(search, grid, budget_per_user, fixed_cost),
            device=device,
            progress=progress,
        )
    judged = judge_menu(
        found.menu,
        judge,
        budget_per_user=budget_per_user,
        fixed_cost=fixed_cost,
        single_offer=best_single(search, budget_per_user, fixed_cost),
    )
    return MenuResult(
        menu=found.menu,
        offer_ids=tuple(grid.offer_ids[i] for i in found.menu),
        search_value=found.value,
        judged=judged,
        n_evals=found.n_evals,
        n_menus=space.n_menus,
        enumerated=enumerated,
        history=found.history,
        takeovers=found.takeovers,
    )


def _check_columns(search: Sample, judge: Sample, n_offers: int) -> None:
    for name, sample in (("search", search), ("judge", judge)):
        if np.ndim(sample.value) != 2 or np.shape(sample.value)[1] != n_offers:
            raise DataError(
                f"must have a column for each of {n_offers} offers; "
                f"got shape {np.shape(sample.value)}",
                where=f"{name} sample",
            )


def _search(
    space: MenuSpace,
    fitness: MenuFitness,
    islands: Sequence[str | Optimizer[Any]],
    max_evals: int,
    *,
    device: str,
    **options: Any,
) -> _Found:
    """Islands from greedy menus; `options` go to `optimize_islands`."""
    methods = [_method(m) for m in islands]
    fewest = min((m.size(space.space) for m in methods), default=0)
    with single_threaded():
        start = _warm_menus(space, fitness, device)
    result = optimize_islands(
        MenuProblem(space, fitness),
        space.space,
        methods,
        max_evals,
        x0=space.encode(start.menus[:fewest]),
        device=device,
        stage="design",
        **options,
    )
    best = space.decode(torch.from_numpy(result.best_x).float())
    menu = tuple(int(i) for i in best.tolist() if i >= 0)
    with single_threaded():
        value = float(fitness(_padded([menu], space.max_offers, device)))
    takeovers = tuple(row for row in result.migrations.to_pylist() if row["is_takeover"])
    return _Found(menu, value, result.n_evals + start.n_evals, result.history, takeovers)


def _method(method: str | Optimizer[Any]) -> Optimizer[Any]:
    if not isinstance(method, str):
        return method
    found: Optimizer[Any] = build("optimizers", {"method": method, **_TUNED.get(method, {})})
    return found


def _padded(menus: Sequence[Sequence[int]], n_slots: int, device: str) -> Tensor:
    rows = [[*menu, *[-1] * (n_slots - len(menu))] for menu in menus]
    return torch.tensor(rows, dtype=torch.int64, device=device).reshape(len(rows), n_slots)


def _enumerate(space: MenuSpace, fitness: MenuFitness, device: str) -> _Found:
    """The best of all menus; ties to the smallest, then the first."""
    sizes = range(space.max_offers + 1)
    menus = [m for k in sizes for m in itertools.combinations(range(space.n_offers), k)]
    values = fitness(_padded(menus, space.max_offers, device))
    best = int(values.argmax())
    return _Found(menus[best], float(values[best]), len(menus), ())


class _Warm(NamedTuple):
    menus: list[tuple[int, ...]]
    n_evals: int


def _warm_menus(space: MenuSpace, fitness: MenuFitness, device: str) -> _Warm:
    """Starting menus: greedy ones of every size, and the best single offers."""
    menu: tuple[int, ...] = ()
    menus: list[tuple[int, ...]] = []
    n_evals = 0
    for size in range(1, space.max_offers + 1):
        tried = [tuple(sorted((*menu, j))) for j in range(space.n_offers) if j not in menu]
        values = fitness(_padded(tried, space.max_offers, device))
        n_evals += len(tried)
        order = torch.sort(values, descending=True, stable=True).indices.tolist()
        menu = tried[order[0]]
        menus.append(menu)
        if size == 1:
            menus += [tried[i] for i in order[1:4]]
    return _Warm(menus, n_evals)


def _digest(
    search: Sample, grid: OfferGrid, budget_per_user: float | None, fixed_cost: ArrayLike
) -> str:
    """What the fitness depends on, so that a checkpoint of other data is refused."""
    digest = hashlib.sha256(repr((grid.offer_ids, budget_per_user)).encode())
    for values in (search.value, search.cost, np.asarray(fixed_cost, float)):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
