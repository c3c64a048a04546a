"""Design of a menu: searched on some users, raced on others, judged on a third part."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from promo_ray.design.binding import Binding, binding_rules
from promo_ray.design.budgets import BudgetRows, Budgets, budgets_of, rows_of, rows_on
from promo_ray.design.columns import Columns, Surface
from promo_ray.design.constraints import Constraints
from promo_ray.design.executable import DesignedOffer, OfferSet, designed, offer_set_of
from promo_ray.design.fitness import MenuFitness, padded
from promo_ray.design.genome import MenuSpace
from promo_ray.design.judge import Finalist, Judgement, best_single, judge_menu, race
from promo_ray.design.local import Menu, mended
from promo_ray.design.search import Settings, enumerate_menus, search_islands
from promo_ray.design.users import MenuUsers, columns_of
from promo_ray.errors import ConfigError, DataError
from promo_ray.execution import Executor
from promo_ray.execution.threads import single_threaded
from promo_ray.offers import Offer
from promo_ray.optimizers import Optimizer
from promo_ray.seeding import stream
from promo_ray.telemetry import SILENT, Progress

DEFAULT_ISLANDS = ("ga", "pso", "sa", "auto")
_SEARCH_SHARE = 0.5  # of the users; the race has a quarter, the judgement the rest
_MOST_SINGLES = 512  # offers compared when the best single one is sought


@dataclass(frozen=True)
class MenuResult:
    """A designed menu.

    Attributes:
        menu: its variants in rising order, see `MenuSpace`; grid rows where the space has one
            segment, window and channel. Empty = no offer pays.
        offers: what they are.
        search_value: value per user on the search sample, less fixed costs. It was maximized, so
            it flatters the menu; `judged` does not.
        finalists: the race on users that the search never saw, the winner first.
        judged: value on users that neither search nor race saw.
        bindings: constraints that cost value, and what relaxing each would bring.
        n_evals: menus evaluated.
        n_menus: menus there are, constraints left aside.
        enumerated: every menu that keeps the constraints was evaluated on the search sample; the
            race on other users chose among the best of them.
        history: scalars of each round and island; empty if enumerated.
        takeovers: migrations in which an island got a new best, see
            `execution.islands_log.MIGRATIONS`; empty if enumerated.
        constraints: rules that the menu keeps.
    """

    menu: Menu
    offers: tuple[DesignedOffer, ...]
    search_value: float
    finalists: tuple[Finalist, ...]
    judged: Judgement
    bindings: tuple[Binding, ...]
    n_evals: int
    n_menus: int
    enumerated: bool
    history: tuple[dict[str, float], ...]
    takeovers: tuple[dict[str, Any], ...] = ()
    constraints: Constraints = field(default_factory=Constraints)

    @property
    def offer_ids(self) -> tuple[str, ...]:
        """Ids of the offers; one for several segments stands several times."""
        return tuple(o.terms["offer_id"] for o in self.offers)

    def executable(self, currency: str = "USD") -> tuple[Offer, ...]:
        """The offers as shops execute them, in the order of the menu; see `offer_set`."""
        return self.offer_set(currency).offers

    def offer_set(self, currency: str = "USD") -> OfferSet:
        """The menu as the artefact `offer_set` holds it: terms and executable offers.

        Segment, channel, its contact cost, window, margin floor and exclusive group go with each;
        of several variants of an offer all but the first get a number behind the id. The margin
        floor is kept on units whose cost the cart tells; others are not touched.

        Raises:
            DataError: terms that are no offer.
        """
        return offer_set_of(self.offers, self.constraints, currency)


class Samples(NamedTuple):
    """Users by the part they play; no user plays two."""

    search: Columns
    race: Columns
    judge: Columns


def design_menu(
    surface: Surface | list[Surface] | tuple[Surface, ...],
    users: MenuUsers,
    space: MenuSpace,
    budgets: Budgets,
    constraints: Constraints | None = None,
    *,
    is_money: bool = True,
    robustness: float = 0.0,
    n_campaign: int | None = None,
    fixed_cost: float = 0.0,
    seed: int = 0,
    **options: Any,
) -> MenuResult:
    """Find the menu of offers that is worth most to users under budgets.

    Half of the users are searched on, a quarter races the finalists, the rest judges the winner.

    Args:
        surface: what predicts effects, or several fitted on resampled logs.
        users: a random sample of the campaign's users.
        space: menus to choose from.
        budgets: over all users of the campaign: a number of currency units, > 0, for all offers
            together, a `Budget`, several, or by name; None = unlimited.
        constraints: rules of the menu; those of the space if None.
        is_money: see `Predicted`.
        robustness: see `Predicted`.
        n_campaign: users of the campaign; those given if None.
        fixed_cost: cost of running one more offer, currency units.
        seed: seed of the split and of the search.
        options: see `search_menu`.

    Raises:
        ConfigError: a setting out of range, or constraints or budgets that do not fit the space.
        DataError: a segment of the space that the users do not have, or features of other width.
    """
    named = budgets_of(budgets)
    n = len(users.x)
    n_campaign = n if n_campaign is None else n_campaign
    if n_campaign < 1:
        raise ConfigError(f"n_campaign must be >= 1; got {n_campaign}")
    surfaces = tuple(surface) if isinstance(surface, list | tuple) else (surface,)
    order = stream(seed, "design.split").permutation(n)
    first, second = int(_SEARCH_SHARE * n), int((1 + _SEARCH_SHARE) / 2 * n)
    parts = [order[:first], order[first:second], order[second:]]
    samples = Samples(
        # in the order drawn: search and race begin with the first of them
        *(columns_of(surfaces, users, space, p, is_money, robustness) for p in parts)
    )
    return search_menu(
        samples,
        space if constraints is None else space.under(constraints),
        budget_per_user=tuple(replace(b, limit=b.limit / n_campaign) for b in named) or None,
        fixed_cost=fixed_cost / n_campaign,
        seed=seed,
        **options,
    )


def search_menu(
    samples: Samples,
    space: MenuSpace,
    *,
    budget_per_user: Budgets,
    fixed_cost: ArrayLike = 0.0,
    today: Sequence[int] | None = None,
    islands: Sequence[str | Optimizer[Any]] = DEFAULT_ISLANDS,
    max_evals: int = 10_000,
    enumerate_up_to: int = 2_000,
    migrate_every: int = 5,
    seed: int = 0,
    executor: Executor | None = None,
    checkpoint_uri: str | None = None,
    device: str = "cpu",
    n_threads: int = 1,
    progress: Progress = SILENT,
) -> MenuResult:
    """Find the menu that is worth most under the budgets, from columns of values and costs.

    Args:
        samples: users to search on, to race on and to judge by, in random order each; value
            estimates shrunken, not raw.
        space: menus to choose from, its variants the samples' columns.
        budget_per_user: budgets, see `design_menu`, over the number of users.
        fixed_cost: value lost per user of the campaign for every offer in the menu (what running
            an offer costs, over the number of users); scalar or one per variant, >= 0.
        today: variants of the menu that runs now: a warm start and a finalist if menus are
            searched and not enumerated, and always what the winner is judged beside.
        islands: population methods of the islands; a name means the method tuned for menus. None
            at all = local search alone.
        max_evals: menus evaluated at most, but the few that a search starts from (an offer
            alone, today's menu, none) are evaluated in any case.
        enumerate_up_to: evaluate every menu, whatever `max_evals` is, if there are no more.
        migrate_every: generations between migrations.
        seed: seed of the search.
        executor: where the islands run; this process if None.
        checkpoint_uri: directory for checkpoints of the islands.
        device: where fitness is computed.
        n_threads: threads that value menus in this process.
        progress: told rounds done and best value.

    Raises:
        DataError: samples that do not fit the space.
        ConfigError: a setting out of range, or budgets that do not fit the space.
    """
    for name, sample in samples._asdict().items():
        if sample.n_offers != space.n_offers:
            raise DataError(
                f"must have a column for each of {space.n_offers} offers; got {sample.n_offers}",
                where=f"{name} sample",
            )
    if max_evals < 1:
        raise ConfigError(f"max_evals must be >= 1; got {max_evals}")
    named = budgets_of(budget_per_user, "budget_per_user")
    rows = rows_on(space, named) if named else rows_of(None, space.n_offers)
    if not (np.isfinite(fixed_cost) & (np.asarray(fixed_cost) >= 0)).all():
        raise ConfigError(f"fixed_cost must be finite and >= 0; got {fixed_cost!r}")
    for v in () if today is None else today:
        if not 0 <= v < space.n_offers:
            raise ConfigError(f"today must name variants of 0 to {space.n_offers - 1}; got {v}")
    settings = Settings(
        rows, fixed_cost, islands, max_evals, migrate_every, seed, executor, checkpoint_uri,
        _digest(samples.search, space, rows, fixed_cost), device, n_threads, progress,
    )  # fmt: skip
    enumerated = space.n_menus <= enumerate_up_to
    old = None if today is None else tuple(int(v) for v in today)
    if enumerated:
        with single_threaded():
            found = enumerate_menus(space, samples.search, settings)
    else:
        found = search_islands(space, samples.search, settings, old)
    with single_threaded():
        rules: dict[str, Any] = {"budget_per_user": rows, "fixed_cost": fixed_cost}
        finalists = race(found.finalists, samples.race, **rules)
        winner = finalists[0].menu
        single = best_single(samples.search, rows, fixed_cost, _singles(space))
        judged = judge_menu(winner, samples.judge, single_offer=single, today=old, **rules)
        bindings = binding_rules(
            space, winner, *(MenuFitness(s, **rules) for s in (samples.search, samples.race))
        )
        search_value = MenuFitness(samples.search, **rules)(padded([winner]))[0]
    return MenuResult(
        menu=winner,
        offers=tuple(designed(space, v) for v in winner),
        search_value=float(search_value),
        finalists=tuple(finalists),
        judged=judged,
        bindings=tuple(bindings),
        n_evals=found.n_evals,
        n_menus=space.n_menus,
        enumerated=enumerated,
        history=found.history,
        takeovers=found.takeovers,
        constraints=space.constraints,
    )


def _singles(space: MenuSpace) -> NDArray[np.int64]:
    """Offers as they are, to everyone in the first segment, that keep the constraints."""
    step = max(1, -(-len(space.grid) // _MOST_SINGLES))
    plain = [(space.variant(row),) for row in range(0, len(space.grid), step)]
    kept = [menu[0] for menu in mended(space, plain) if menu]
    return np.array(kept, dtype=np.int64)


def _digest(search: Columns, space: MenuSpace, rows: BudgetRows, fixed_cost: ArrayLike) -> str:
    """What the fitness depends on, so that a checkpoint of other data is refused."""
    known = (space.grid.offer_ids, space.constraints, rows.key())
    digest = hashlib.sha256(f"{known!r}{search.digest()}".encode())
    digest.update(np.asarray(fixed_cost, float).tobytes())
    return digest.hexdigest()
