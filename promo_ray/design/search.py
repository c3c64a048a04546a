"""The search of a menu: warm starts, islands on a growing sample, then a climb from the best."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from promo_ray.design.budgets import BudgetRows
from promo_ray.design.columns import Columns
from promo_ray.design.fitness import MenuFitness
from promo_ray.design.genome import MenuSpace
from promo_ray.design.knapsack import allocate_menu
from promo_ray.design.local import Evaluator, Menu, Scored, climb, lp_menu, mended
from promo_ray.execution import Executor
from promo_ray.optimizers import Optimizer, optimize_islands
from promo_ray.registry import build
from promo_ray.seeding import stream
from promo_ray.telemetry import SILENT, Progress

# what a method's name means here: small populations, since fitness is exact; slots are inherited
# whole; rings, so that swarms agree later
_TUNED: dict[str, dict[str, Any]] = {
    "ga": {"pop_size": 50, "crossover": "slot", "mutation": "grid_step", "mutation_rate": 0.06},
    "pso": {"pop_size": 50, "neighborhood": "ring"},
}
_WARM_SHARE = 0.2  # of the evaluations: single offers and the greedy menu
_CLIMB_SHARE = 0.6  # the local search from the best of the islands
_FEWEST_USERS = 1_000  # a part of the sample to begin with is no smaller
_N_FINALISTS = 12
_N_POOL = 24  # offers that the local search may add to any menu


class Found(NamedTuple):
    """What a search found.

    Attributes:
        best: the best menu on the search sample.
        finalists: menus for the race, the best first.
        n_evals: menus evaluated.
        history, takeovers: see `menu.MenuResult`.
    """

    best: Scored
    finalists: list[Menu]
    n_evals: int
    history: tuple[dict[str, float], ...] = ()
    takeovers: tuple[dict[str, Any], ...] = ()


class Settings(NamedTuple):
    """How a menu is searched; see `menu.search_menu`."""

    budgets: BudgetRows
    fixed_cost: ArrayLike
    islands: Sequence[str | Optimizer[Any]]
    max_evals: int
    migrate_every: int
    seed: int
    executor: Executor | None
    checkpoint_uri: str | None
    key: str
    device: str
    n_threads: int
    progress: Progress = SILENT


def enumerate_menus(space: MenuSpace, columns: Columns, settings: Settings) -> Found:
    """The best of all menus; ties to the smallest, then the first."""
    evaluate = _evaluator(space, columns, settings)
    every = itertools.chain.from_iterable(
        itertools.combinations(range(space.n_offers), k) for k in range(space.max_offers + 1)
    )
    evaluate(mended(space, every))
    best = evaluate.best(_N_FINALISTS)
    return Found(best[0], [b.menu for b in best], evaluate.n_evals)


def search_islands(
    space: MenuSpace, columns: Columns, settings: Settings, today: Menu | None
) -> Found:
    """Warm starts, islands on a growing sample, and a climb; see `menu.search_menu`."""
    evaluate = _evaluator(space, columns, settings)
    warm = _warm(evaluate, columns, settings, today)
    space, methods = warm.space, [_method(m) for m in settings.islands]
    evaluate.space = space
    left = settings.max_evals - evaluate.n_evals
    n_climb = int(_CLIMB_SHARE * left) if methods else left
    course = _Course()
    if methods:
        _run_islands(space, columns, settings, methods, warm, left - n_climb, course)
    met = mended(space, [*course.menus, *warm.menus, ()])
    evaluate(met)
    start = evaluate.best(1)[0]
    rng = stream(settings.seed, "design.climb")
    left = settings.max_evals - evaluate.n_evals - course.n_evals
    best = climb(evaluate, start, warm.pool, left, rng) if left > 0 else start
    finalists = [b.menu for b in evaluate.best(_N_FINALISTS)]
    own = [] if today is None else mended(space, [today])
    n_evals = evaluate.n_evals + course.n_evals
    finalists = list(dict.fromkeys([best.menu, *finalists, *course.menus, *own]))
    return Found(best, finalists, n_evals, tuple(course.history), tuple(course.takeovers))


def _evaluator(space: MenuSpace, columns: Columns, settings: Settings) -> Evaluator:
    fitness = MenuFitness(
        columns,
        budget_per_user=settings.budgets,
        fixed_cost=settings.fixed_cost,
        n_threads=settings.n_threads,
    )
    return Evaluator(space, fitness, settings.device)


class _Warm(NamedTuple):
    space: MenuSpace  # with ranks
    menus: list[Menu]
    pool: list[int]


def _warm(evaluate: Evaluator, columns: Columns, settings: Settings, today: Menu | None) -> _Warm:
    """Today's menu, the best single offers, greedy menus of every size, the LP's menu."""
    space = evaluate.space
    size = max(1, int(_WARM_SHARE * settings.max_evals) // (space.max_offers + 1))
    pool = _pool(space, size, settings.seed)
    singles = [m[0] for m in mended(space, [[v] for v in pool]) if m]
    values = evaluate([(v,) for v in singles])
    order = [singles[i] for i in np.argsort(-np.array(values), kind="stable")]
    space = space.under(space.constraints, _rank(space, order))
    menus = mended(space, [today]) if today is not None else []
    menu: Menu = ()
    for k in range(1, space.max_offers + 1):
        tried = [m for m in mended(space, [(*menu, v) for v in order]) if len(m) == k]
        if not tried:
            break
        found = evaluate(tried)
        menu = tried[int(np.argmax(found))]
        menus.append(menu)
    menus += mended(space, [_lp(columns, order, space.max_offers, settings.budgets)])
    menus += [(v,) for v in order[:3]]
    menus = list(dict.fromkeys(menus))
    values = evaluate(menus)
    best = [menus[i] for i in np.argsort(-np.array(values), kind="stable")]
    return _Warm(space, best, order[:_N_POOL])


def _pool(space: MenuSpace, size: int, seed: int) -> list[int]:
    """Variants to try alone: all, or as many drawn, the plainest of each offer first."""
    if space.n_offers <= size:
        return list(range(space.n_offers))
    rng = stream(seed, "design.pool")
    plain = [space.variant(int(row)) for row in rng.permutation(len(space.grid))[: size // 2]]
    drawn = rng.integers(space.n_offers, size=size - len(plain)).tolist()
    return list(dict.fromkeys([*plain, *drawn]))


def _rank(space: MenuSpace, order: Sequence[int]) -> NDArray[np.int64]:
    """Grid rows by their best variant alone; rows not tried come last, in the grid's order."""
    rows = list(dict.fromkeys(int(space.row_of(np.array(v))) for v in order))
    rank = np.arange(len(space.grid)) + len(rows)
    rank[rows] = np.arange(len(rows))
    return rank


def _lp(columns: Columns, order: Sequence[int], slots: int, budgets: BudgetRows) -> Menu:
    offers = np.array(order, dtype=np.int64)
    value, cost = (a.astype(np.float64) for a in columns.take(offers))
    use, value = budgets.use(offers, cost).transpose(0, 2, 1), value.T
    slot = allocate_menu(value, use, budgets.limit * columns.n_users).slot
    taken = np.flatnonzero(slot >= 0)
    carried = np.zeros(len(order))
    np.add.at(carried, slot[taken], value[taken, slot[taken]])
    return lp_menu(carried, order, slots)


@dataclass
class _Course:
    """What the islands did, stage by stage."""

    n_evals: int = 0
    n_rounds: int = 0
    menus: list[Menu] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    takeovers: list[dict[str, Any]] = field(default_factory=list)


def _run_islands(
    space: MenuSpace,
    columns: Columns,
    settings: Settings,
    methods: Sequence[Optimizer[Any]],
    warm: _Warm,
    max_evals: int,
    course: _Course,
) -> None:
    """Half of the evaluations on a quarter of the users, the rest on all from what was found."""
    box = space.space
    sizes = [m.size(box) for m in methods]
    per_generation = sum(size * max(1, round(max(sizes) / size)) for size in sizes)
    start, n = list(warm.menus), columns.n_users
    shares = [1.0]
    if n // 4 >= _FEWEST_USERS and max_evals >= 4 * per_generation:
        shares = [0.25, 1.0]
    for stage, share in enumerate(shares):
        budget = max_evals // len(shares)
        if budget < per_generation:
            return
        part = columns if share == 1 else columns.users(slice(0, int(share * n)))
        uri = settings.checkpoint_uri
        result = optimize_islands(
            _evaluator(space, part, settings._replace(n_threads=1)).of_genes,
            box,
            methods,
            budget,
            migrate_every=max(1, min(settings.migrate_every, budget // per_generation)),
            seed=settings.seed + stage,
            x0=space.encode(start[: min(sizes)]),
            executor=settings.executor,
            checkpoint_uri=f"{uri}/stage{stage}" if uri else None,
            key=settings.key,
            device=settings.device,
            progress=settings.progress,
            stage="design",
        )
        best = space.decode(torch.from_numpy(result.best_x).float())
        menu = tuple(int(i) for i in best.tolist() if i >= 0)
        start = list(dict.fromkeys([menu, *start]))
        _note(course, result, menu, part.n_users)


def _note(course: _Course, result: Any, menu: Menu, n_users: int) -> None:
    first = course.n_rounds
    for row in result.history:
        course.history.append({**row, "round": row["round"] + first, "n_users": n_users})
    for row in result.migrations.to_pylist():
        if row["is_takeover"]:
            moved = {name: row[name] + first for name in ("round", "source_round")}
            course.takeovers.append({**row, **moved})
    course.n_rounds += max(result.rounds)
    course.n_evals += result.n_evals
    course.menus.append(menu)


def _method(method: str | Optimizer[Any]) -> Optimizer[Any]:
    if not isinstance(method, str):
        return method
    found: Optimizer[Any] = build("optimizers", {"method": method, **_TUNED.get(method, {})})
    return found
