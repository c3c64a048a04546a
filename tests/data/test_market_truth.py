"""Truth under common random numbers, the bump's parts, the log and its faults, sharding."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from market_cases import QUARTER, everybody, offers, plain, small

from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.catalog import CATALOG
from promo_ray.artifacts.events import EVENTS
from promo_ray.artifacts.users import USERS
from promo_ray.config import parse
from promo_ray.data.adapters.hillstrom import Hillstrom
from promo_ray.data.market import replay
from promo_ray.data.market.config import MarketConfig
from promo_ray.data.market.events import purchases_of
from promo_ray.data.market.households import Population, households_of
from promo_ray.data.market.simulator import MarketSimulator
from promo_ray.errors import ConfigError, DataError

DATA = Path(os.environ.get("PROMO_RAY_DATA", Path(__file__).parents[3] / "shared" / "data"))


def _bytes(result: replay.Result) -> bytes:
    tables = (*result.actual, *result.observed, *result.totals)
    return b"".join(np.ascontiguousarray(t).tobytes() for t in tables)


@pytest.mark.parametrize(("tightness", "budget"), [(0.0, 0.0), (1.5, 0.0), (0.0, 0.05)])
def test_any_sharding_and_chunking_gives_the_same_bytes(
    tightness: float, budget: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = small(
        41,
        referral_strength=0.5,
        stock_tightness=tightness,
        discount_budget=budget,
        lag_days=2.0,
    )
    ids, menu = market.user_ids(), market.past_offers()
    arm = np.arange(41) % (menu.num_rows + 1)
    whole = _bytes(market.replay(ids, menu, arm))
    for n_shards in (2, 7):
        assert _bytes(replace(market, n_shards=n_shards).replay(ids, menu, arm)) == whole
    monkeypatch.setattr(replay, "CHUNK", 13)
    assert _bytes(market.replay(ids, menu, arm)) == whole


def test_events_hold_what_the_replay_sold_when_users_share() -> None:
    market = small(80, referral_strength=1.0, stock_tightness=1.5, discount_budget=0.05)
    ids, menu = market.user_ids(), market.past_offers()
    arm = np.arange(80) % (menu.num_rows + 1)
    rows = purchases_of(market.world(menu), ids, arm, None)
    is_campaign = rows["day"] >= 0
    units = np.zeros((market.config.horizon_days, market.config.n_items), np.int64)
    where = rows["day"][is_campaign], rows["item"][is_campaign]
    np.add.at(units, where, rows["units"][is_campaign])
    assert np.array_equal(units, market.replay(ids, menu, arm).totals.units)


def test_a_user_is_the_same_in_any_company() -> None:
    market = small(60)
    ids, menu = market.user_ids(), market.past_offers()
    arm = np.arange(60) % 4
    whole = market.replay(ids, menu, arm).actual
    some = np.arange(60)[::-7]
    part = market.replay([ids[i] for i in some], menu, arm[some]).actual
    assert all(np.array_equal(a[some], b) for a, b in zip(whole, part, strict=True))


def test_a_policy_is_worth_what_its_users_potential_outcomes_say() -> None:
    market = small(200)
    ids, menu = market.user_ids(), market.past_offers()
    effects = market.true_effects(ids, menu, n_replicates=2)
    arm = np.arange(200) % (menu.num_rows + 1)
    value = market.policy_value(ids, menu, arm, n_replicates=2)
    assert value.value == pytest.approx(effects.profit[np.arange(200), arm].mean(axis=0))
    assert value.nobody == pytest.approx(effects.profit[:, 0].mean(axis=0))
    assert value.gain == pytest.approx(effects.uplift[np.arange(200), arm].mean(axis=0))
    same = market.policy_value(ids, menu, np.zeros(200))
    assert not same.gain.any()
    assert np.isnan(same.se).all()


def test_common_draws_make_differences_far_more_exact_than_levels() -> None:
    market = small(400)
    ids, menu = market.user_ids(), offers(QUARTER)
    found = market.true_effects(ids, menu)
    uplift, level = found.uplift[:, 1, 0], found.profit[:, 0, 0]
    assert uplift.std() < 0.5 * level.std()
    assert (uplift == 0.0).mean() > 0.3  # users whom the offer does not reach


def test_antithetic_replicates_mirror_each_other() -> None:
    market = plain(2000)
    ids = market.user_ids()
    orders = [market.replay(ids, replicate=r).actual.orders[:, 1] for r in range(3)]
    assert np.corrcoef(orders[0], orders[1])[0, 1] < -0.1
    assert abs(np.corrcoef(orders[0], orders[2])[0, 1]) < 0.08


def test_standard_errors_come_from_pairs() -> None:
    market = small(50)
    found = market.true_effects(market.user_ids(), offers(QUARTER), n_replicates=4)
    assert np.isfinite(found.se).all()
    assert found.se[1].min() > 0
    assert not found.se[0].any()


def test_the_parts_of_the_bump_add_up_and_are_thirds_by_default() -> None:
    market = MarketSimulator(config=MarketConfig(n_users=2000, history_days=28))
    found = market.promotion_bump(market.user_ids(), n_replicates=2)
    assert found.cross_item + found.cross_period + found.growth == pytest.approx(found.bump)
    assert found.shares == pytest.approx([1 / 3] * 3, abs=0.1)
    assert "from other items" in str(found)
    with pytest.raises(DataError, match="item_ids: must name items"):
        market.promotion_bump(market.user_ids()[:2], ["nothing"])


def test_a_stocked_up_gain_is_paid_back_after_the_window() -> None:
    settings = {"quantity_pull": 3.0, "visits_per_week": 3.0, "redeem_rate": 0.99}
    deep = offers({**QUARTER, "depth_rate": 0.2})
    pulled = []
    for strength in (0.0, 1.0):
        market = plain(1500, inventory_strength=strength, **settings)
        value = market.policy_value(market.user_ids(), deep, everybody(market))
        pulled.append(value.pulled_forward)
    assert pulled[0] <= 0.0 < pulled[1]
    assert "pulled forward" in str(value)


def test_tables_conform_to_their_kinds() -> None:
    market = small(40)
    ids, menu = market.user_ids(), market.past_offers()
    for kind, name, table in [
        (EVENTS, "events", market.events(ids, menu, np.arange(40) % 3)),
        (CATALOG, "catalog", market.catalog()),
        (USERS, "users", market.users(ids)),
        (CAMPAIGN_LOG, "campaign_log", market.campaign_log(ids)),
        (CAMPAIGN_LOG, "offers", menu),
    ]:
        assert kind.tables[name].conform(table, name).equals(table)
    events = pl.DataFrame(market.events(ids, menu, np.arange(40) % 3))
    assert events.select("user_id", "at").equals(
        events.select("user_id", "at").sort("user_id", "at")
    )
    assert set(events["event_type"]) <= {"purchase", "return"}
    assert events["offer_id"].drop_nulls().n_unique() > 0


def test_events_and_accounts_tell_the_same_story() -> None:
    market = small(80, maker_coupon_rate=0.0, return_rate=0.0)
    ids, menu = market.user_ids(), market.past_offers()
    arm = np.arange(80) % (menu.num_rows + 1)
    result = market.replay(ids, menu, arm, windows=(28,)).actual
    events = pl.DataFrame(market.events(ids, menu, arm)).filter(
        pl.col("at").dt.date() >= pl.lit(market.config.start).str.to_date()
    )
    spent = (events["quantity"] * events["unit_price"]).sum()
    assert spent == pytest.approx(result.revenue.sum() / 100.0, abs=0.01)
    assert events["order_id"].n_unique() == result.orders.sum()


def test_the_log_holds_the_drawn_arm_with_its_exact_chance() -> None:
    market = small(3000, n_waves=2, drift_strength=1.0, n_categories=4)
    ids = market.user_ids()
    log, chance = market.campaign_log(ids), market.propensities(ids)
    arm = market.campaign_arms(ids)
    assert chance.sum(axis=1) == pytest.approx(1.0)
    assert log["propensity"].to_numpy() == pytest.approx(chance[np.arange(3000), arm])
    counts = np.bincount(arm, minlength=chance.shape[1])
    sd = np.sqrt((chance * (1 - chance)).sum(axis=0))
    assert (np.abs(counts - chance.sum(axis=0)) < 4 * sd).all()
    wave = households_of(market.config, ids).wave
    by_wave = [chance[wave == w].mean(axis=0) for w in (0, 1)]
    assert np.abs(by_wave[0] - by_wave[1]).max() > 0.05
    assert pl.DataFrame(log)["exposed_at"].n_unique() == 2
    steady = small(300, n_waves=2)
    wave = households_of(steady.config, steady.user_ids()).wave
    even = steady.propensities(steady.user_ids())
    assert even[:, 0] == pytest.approx(steady.config.control_share)


def test_confounding_is_hidden_from_the_log_alone() -> None:
    market = small(400, confounding=1.0, n_categories=4)
    ids = market.user_ids()
    rows = np.arange(400), market.campaign_arms(ids)
    claim = market.campaign_log(ids)["propensity"].to_numpy()
    assert np.abs(claim - market.propensities(ids)[rows]).max() > 0.05
    activity = households_of(market.config, ids).factors[:, 0]
    assert activity[rows[1] > 0].mean() > activity[rows[1] == 0].mean() + 0.3
    assert market.design()["is_randomized"] is False


def test_households_from_a_real_table_keep_its_rows_and_correlations() -> None:
    directory = DATA / "hillstrom"
    if not directory.is_dir():
        pytest.skip(f"{directory} is not there")
    users = Hillstrom().read(str(directory)).users
    assert users is not None
    market = replace(small(3000, covariate_weight=0.5), population=Population.of(users))
    ids = market.user_ids()
    assert market.population is not None
    rows = market.population.rows(market.config.seed, households_of(market.config, ids).keys)
    real = pl.DataFrame(users)[rows]
    table = pl.DataFrame(market.users(ids[:50]))
    assert table["attr_history"].to_list() == real["attr_history"][:50].to_list()
    kept = np.corrcoef(real["attr_history"], real["attr_recency"])[0, 1]
    whole = np.corrcoef(users["attr_history"], users["attr_recency"])[0, 1]
    assert kept == pytest.approx(whole, abs=0.05)
    mixed = market.population.factors(market.config.seed, rows)
    factors = households_of(market.config, ids, market.population).factors
    for k in range(5):
        assert np.corrcoef(mixed[:, k], factors[:, k])[0, 1] ** 2 == pytest.approx(0.5, abs=0.06)
    none = replace(market, config=replace(market.config, covariate_weight=0.0), population=None)
    zero = replace(market, config=replace(market.config, covariate_weight=0.0))
    assert np.array_equal(
        households_of(none.config, ids).factors,
        households_of(zero.config, ids, zero.population).factors,
    )


def test_bad_input_is_refused() -> None:
    market = small(3)
    ids = market.user_ids()
    with pytest.raises(DataError, match="arm"):
        market.replay(ids, offers(QUARTER), [0, 1, 2])
    with pytest.raises(DataError, match="arm"):
        market.replay(ids, offers(QUARTER), [0, 1])
    with pytest.raises(DataError, match="windows"):
        market.replay(ids, windows=(1000,))
    with pytest.raises(DataError, match="contact_days"):
        market.replay(ids, contact_days=(7, 0))
    with pytest.raises(DataError, match="contact_days: must be < "):
        market.replay(ids, contact_days=(0, 500))
    with pytest.raises(DataError, match="user_ids: must be users of the market; got 'nobody'"):
        market.replay(["nobody"])
    with pytest.raises(DataError, match="policy: must hold whole numbers"):
        market.policy_value(ids, offers(QUARTER), np.full(len(ids), 0.7))
    with pytest.raises(DataError, match="item_ids: must name items"):
        market.promotion_bump(ids, [market.catalog()["item_id"][0].as_py(), "nothing"])
    with pytest.raises(ConfigError, match="n_replicates must be >= 1"):
        market.true_effects(ids, offers(QUARTER), n_replicates=0)
    with pytest.raises(DataError, match="depth"):
        market.world(depth=np.zeros((2, 2)))
    with pytest.raises(DataError, match="user_ids"):
        market.replay([])
    with pytest.raises(ConfigError, match="n_shards"):
        replace(market, n_shards=0)
    with pytest.raises(ConfigError, match="window_days"):
        parse(MarketConfig, {"window_days": 100})
    with pytest.raises(ConfigError, match="last wave"):
        parse(MarketConfig, {"n_waves": 20})
    with pytest.raises(ConfigError, match="ISO date"):
        parse(MarketConfig, {"start": "monday"})
    with pytest.raises(DataError, match="varies"):
        Population.of(pa.table({"user_id": ["a", "b"], "x": [1.0, 1.0]}))


@pytest.mark.parametrize("arm", [[0], [99] * 20, [1.5] * 20, [-1] * 20, ["a"] * 20, 1])
def test_arms_that_the_market_lacks_are_refused(arm: Any) -> None:
    market = small(20)
    for replayed in (market.events, market.replay):
        with pytest.raises(DataError, match="arm: must"):
            replayed(market.user_ids(), market.past_offers(), arm)
