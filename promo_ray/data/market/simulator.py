"""The market simulator: replay any offers, policies and promotions, and know what is true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from promo_ray.data.market.campaign import (
    arms_of,
    chances_of,
    design_of,
    log_of,
    past_offers_of,
    users_of,
)
from promo_ray.data.market.checks import arms_of_users, check_users, replicates, whole_arms
from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.events import events_of
from promo_ray.data.market.households import Population, households_of
from promo_ray.data.market.replay import Result, Shard, chunks, join, replay_shard, settle
from promo_ray.data.market.shared import friends_contacted, is_shared, replay_shared
from promo_ray.data.market.supply import catalog_table, supply_of
from promo_ray.data.market.truth import (
    PolicyValue,
    PromotionBump,
    TrueEffects,
    bump_of,
    pair_error,
)
from promo_ray.data.market.world import World, promotion_calendars, world_of
from promo_ray.errors import ConfigError, DataError
from promo_ray.execution import Executor, SerialExecutor

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class MarketSimulator:
    """A shop simulated day by day under common random numbers.

    Every draw belongs to (seed, user, day): replays of different offers differ by the offers
    alone, so differences between them are exact for the draws, and no answer depends on shards,
    chunks or executors. Averages over `n_replicates` draws estimate expectations; odd replicates
    are antithetic to the even ones.

    Attributes:
        config: sizes and strengths.
        population: real users to draw households from; None = synthetic traits.
        executor: where replays run; None = this process.
        n_shards: shards of users in a replay.

    >>> market = MarketSimulator(config=MarketConfig(n_users=30, history_days=7, horizon_days=28))
    >>> market.replay(market.user_ids()).totals.units.shape
    (28, 200)
    """

    config: MarketConfig = field(default_factory=MarketConfig)
    population: Population | None = None
    executor: Executor | None = None
    n_shards: int = 1

    def __post_init__(self) -> None:
        if self.n_shards < 1:
            raise ConfigError(f"n_shards must be >= 1; got {self.n_shards}")

    def user_ids(self) -> list[str]:
        """Ids of all users, sorted."""
        return [f"u{i:0{self._id_width}d}" for i in range(self.config.n_users)]

    @property
    def _id_width(self) -> int:
        return max(7, len(str(self.config.n_users - 1)))

    def catalog(self) -> pa.Table:
        """Table `catalog`: items with list price and unit cost."""
        return catalog_table(self.config)

    def world(
        self,
        offers: pa.Table | None = None,
        *,
        depth: ArrayLike | None = None,
        contact_days: Sequence[int] = (0,),
        replicate: int = 0,
    ) -> World:
        """What a replay keeps fixed; see `world_of`."""
        return world_of(self.config, offers, depth, tuple(contact_days), replicate)

    def run(
        self,
        user_ids: Sequence[str],
        worlds: Sequence[World],
        arms: ArrayLike,
        windows: Sequence[int] = (),
    ) -> list[Result]:
        """Replay scenarios from the same history with the same draws.

        Args:
            user_ids: users; with interference all who share friends, stock or budget.
            worlds: one per scenario.
            arms: `(n, n_scenarios)` arm of each user, 0 = control.
            windows: lengths of outcome windows, days; default `window_days` and `horizon_days`.
                They end with the horizon at the latest.

        Raises:
            DataError: a user that the market lacks, arms of a wrong shape or no whole numbers, or
                an arm that the menu lacks.
        """
        given = whole_arms(arms, "arms")
        check_users(user_ids, self.config.n_users, self._id_width)
        if given.shape != (len(user_ids), len(worlds)):
            raise DataError(
                f"must be ({len(user_ids)}, {len(worlds)}); got {given.shape}", where="arms"
            )
        for s, world in enumerate(worlds):
            if len(given) and not (
                0 <= given[:, s].min() and given[:, s].max() < world.menu.n_arms
            ):
                raise DataError(f"must be in [0, {world.menu.n_arms})", where="arms")
        friends = np.stack(
            [friends_contacted(self.config, user_ids, given[:, s]) for s in range(len(worlds))],
            axis=1,
        )
        cuts = [len(user_ids) * k // self.n_shards for k in range(self.n_shards + 1)]
        shards = [
            Shard(user_ids[low:high], given[low:high], friends[low:high])
            for low, high in pairwise(cuts)
            if high > low
        ]
        if not shards:
            raise DataError("must name at least one user", where="user_ids")
        spans = self.windows(windows)
        resident = (self.executor or SerialExecutor()).load(shards)
        try:
            if is_shared(self.config):
                return [
                    replay_shared(resident, w, s, spans, self.population, len(user_ids))
                    for s, w in enumerate(worlds)
                ]
            parts = resident.map(replay_shard, tuple(worlds), spans, self.population)
        finally:
            resident.release()
        return [join(list(part)) for part in zip(*parts, strict=True)]

    def windows(self, windows: Sequence[int] = ()) -> tuple[int, ...]:
        """Windows in ascending order; the default ones if none are given."""
        own = (self.config.window_days, self.config.horizon_days)
        spans = tuple(sorted(set(windows or own)))
        if not 1 <= spans[0] <= spans[-1] <= self.config.horizon_days:
            raise DataError(
                f"must be in [1, {self.config.horizon_days}]; got {spans}", where="windows"
            )
        return spans

    def replay(
        self,
        user_ids: Sequence[str],
        offers: pa.Table | None = None,
        arm: ArrayLike | None = None,
        *,
        windows: Sequence[int] = (),
        contact_days: Sequence[int] = (0,),
        replicate: int = 0,
    ) -> Result:
        """One replay; `arm` is `(n,)`, 0 = control, default nobody is contacted."""
        world = self.world(offers, contact_days=contact_days, replicate=replicate)
        arms = arms_of_users(arm, len(user_ids), world.menu.n_arms)
        return self.run(user_ids, [world], arms[:, None], windows)[0]

    def users(self, user_ids: Sequence[str]) -> pa.Table:
        """Table `users`: loyalty, history and, from a real population, its columns."""
        with_history = [settle(self.world(), chunk, self.population) for chunk in chunks(user_ids)]
        history = np.concatenate([s.history for s in with_history], axis=1)
        homes = households_of(self.config, user_ids, self.population)
        return users_of(self.config, user_ids, homes, history, self.population)

    def past_offers(self) -> pa.Table:
        """Offer terms of the campaign, over all mechanics."""
        return past_offers_of(self.config)

    def propensities(self, user_ids: Sequence[str]) -> Floats:
        """True probability of each arm of the campaign; `(n, n_offers + 1)`, control first."""
        homes = households_of(self.config, user_ids, self.population)
        return chances_of(self.config, homes, self.past_offers().num_rows + 1, is_claim=False)

    def campaign_arms(self, user_ids: Sequence[str]) -> Ints:
        """`(n,)` arm that the campaign drew for each user, before users got lost."""
        homes = households_of(self.config, user_ids, self.population)
        return arms_of(self.config, homes, self.propensities(user_ids))

    def campaign_log(self, user_ids: Sequence[str]) -> pa.Table:
        """Table `campaign_log`: what the books show of each user at the end of the window."""
        offers, arm = self.past_offers(), self.campaign_arms(user_ids)
        result = self.replay(user_ids, offers, arm, windows=(self.config.window_days,))
        homes = households_of(self.config, user_ids, self.population)
        return log_of(self.config, user_ids, homes, offers, arm, result.observed)

    def design(self) -> dict[str, Any]:
        """Document `design` of the campaign log."""
        return design_of(self.config)

    def events(
        self,
        user_ids: Sequence[str],
        offers: pa.Table | None = None,
        arm: ArrayLike | None = None,
        *,
        contact_days: Sequence[int] = (0,),
    ) -> pa.Table:
        """Table `events`: purchases and returns of history and campaign, by user and time."""
        check_users(user_ids, self.config.n_users, self._id_width)
        world = self.world(offers, contact_days=contact_days)
        arms = arms_of_users(arm, len(user_ids), world.menu.n_arms)
        return events_of(world, user_ids, arms, self.population)

    def true_effects(
        self,
        user_ids: Sequence[str],
        offers: pa.Table,
        *,
        windows: Sequence[int] = (),
        contact_days: Sequence[int] = (0,),
        n_replicates: int = 1,
    ) -> TrueEffects:
        """Potential outcomes of every user under control and each offer given to all.

        A random policy with chances `pi` is worth `(pi[:, :, None] * profit).sum(1).mean(0)`. With
        interference the outcomes are those of giving the offer to everybody.
        """
        spans, n_arms = self.windows(windows), offers.num_rows + 1
        arms = np.tile(np.arange(n_arms), (len(user_ids), 1))
        draws = []
        for r in replicates(n_replicates):
            world = self.world(offers, contact_days=contact_days, replicate=r)
            results = self.run(user_ids, [world] * n_arms, arms, spans)
            tables = [_outcomes(world, x, np.full(len(user_ids), j), spans)
                      for j, x in enumerate(results)]  # fmt: skip
            draws.append(np.stack(tables, axis=2))
        values = np.stack(draws)  # (n_replicates, 4, n, n_arms, n_windows)
        profit, revenue, orders, discount = values.mean(axis=0)
        effect = (values[:, 0] - values[:, 0, :, :1]).mean(axis=1)
        return TrueEffects(spans, profit, revenue, orders, discount, pair_error(effect))

    def policy_value(
        self,
        user_ids: Sequence[str],
        offers: pa.Table,
        policy: ArrayLike,
        *,
        windows: Sequence[int] = (),
        contact_days: Sequence[int] = (0,),
        n_replicates: int = 1,
    ) -> PolicyValue:
        """True value of a policy: replay it and contacting nobody under the same draws.

        Args:
            user_ids: users.
            offers: offer terms.
            policy: `(n,)` arm of each user, 0 = control.
            windows: lengths of outcome windows, days.
            contact_days: days of contact after the start of a user's wave.
            n_replicates: draws; even and at least 4 for a standard error.
        """
        spans, arm = self.windows(windows), whole_arms(policy, "policy")
        arms = np.stack([arm, np.zeros_like(arm)], axis=1)
        found = []
        for r in replicates(n_replicates):
            world = self.world(offers, contact_days=contact_days, replicate=r)
            results = self.run(user_ids, [world, world], arms, spans)
            found.append(
                [_outcomes(world, x, a, spans) for x, a in zip(results, arms.T, strict=True)]
            )
        values = np.array(found)  # (n_replicates, 2, 4, n, n_windows)
        profit = values[:, :, 0].mean(axis=2)
        mean = profit.mean(axis=0)
        error = pair_error(profit[:, 0] - profit[:, 1])
        return PolicyValue(spans, mean[0], mean[1], error)

    def promotion_bump(
        self,
        user_ids: Sequence[str],
        item_ids: Sequence[str] | None = None,
        *,
        depth: float = 0.25,
        first_day: int = 7,
        n_days: int = 7,
        n_replicates: int = 2,
    ) -> PromotionBump:
        """Decomposition of the bump of a shop promotion on some items.

        Args:
            user_ids: users.
            item_ids: promoted items; None = the leading item of every fourth category.
            depth: reduction in (0, 1].
            first_day: first day of the promotion.
            n_days: its length; the days after it up to the horizon count as other periods.
            n_replicates: draws; even and at least 4 for standard errors.
        """
        config, supply = self.config, supply_of(self.config)
        if item_ids is None:
            item_ids = supply.item_ids[:: 4 * config.items_per_category]
        is_promoted = np.isin(supply.item_ids, item_ids)
        days = slice(first_day, first_day + n_days)
        if not is_promoted.any() or is_promoted.sum() != len(set(item_ids)):
            raise DataError("must name items of the catalog", where="item_ids")
        if not 0 <= first_day < first_day + n_days <= config.horizon_days:
            raise DataError("must name days of the market", where="first_day, n_days")
        base, deep = promotion_calendars(config, is_promoted, days, depth)
        found = []
        for r in replicates(n_replicates):
            worlds = [self.world(depth=d, replicate=r) for d in (deep, base)]
            with_it, without = self.run(user_ids, worlds, np.zeros((len(user_ids), 2), np.int64))
            found.append(
                bump_of(with_it.totals.units, without.totals.units, is_promoted, days,
                        config.items_per_category)
            )  # fmt: skip
        values = np.array(found)
        mean = values.mean(axis=0)
        return PromotionBump(
            bump=float(mean[0]),
            base=float(mean[1]),
            cross_item=float(mean[2]),
            cross_period=float(mean[3]),
            growth=float(mean[4]),
            halo=float(mean[5]),
            se=pair_error(values[:, 2:5] / values[:, :1]),
        )


def _outcomes(world: World, result: Result, arm: Ints, windows: Sequence[int]) -> Floats:
    """`(4, n, n_windows)` profit, revenue, orders, discount of users; currency units."""
    actual = result.actual
    n_contacts = np.array([[d < w for w in windows] for d in world.contact_days]).sum(axis=0)
    contact = world.menu.contact_cents[arm][:, None] * n_contacts
    profit = (actual.margin - contact) / 100.0
    return np.stack([profit, actual.revenue / 100.0, actual.orders, actual.discount / 100.0])
