from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.special import ndtri
from scipy.stats import chisquare, poisson

from promo_ray.artifacts.campaign_log import CAMPAIGN_LOG
from promo_ray.artifacts.catalog import CATALOG
from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.artifacts.events import EVENTS
from promo_ray.artifacts.users import USERS
from promo_ray.config import parse, resolve
from promo_ray.data.shop_events import poisson_counts
from promo_ray.data.shop_offers import WindowOrders, baskets_of
from promo_ray.data.shop_response import outcomes_of, responses_of
from promo_ray.data.shop_traits import traits_of
from promo_ray.data.simulate import Shop
from promo_ray.errors import ConfigError, DataError

SHOP = Shop(n_users=1500, seed=3)
IDS = SHOP.user_ids()


def _offers(*rows: dict[str, object]) -> pa.Table:
    base = dict.fromkeys(OFFER_TERMS.names) | {"contact_cost": 0.1, "label": "offer"}
    filled = [base | {"offer_id": f"o{i}"} | row for i, row in enumerate(rows)]
    return pa.Table.from_pylist(filled, schema=OFFER_TERMS)


def _untried() -> pa.Table:
    """One offer per mechanic and kind of scope that no past campaign tried."""
    scope = SHOP.catalog()["category"][0].as_py()
    items = SHOP.catalog()["item_id"][5:8].to_pylist()
    return _offers(
        {"mechanic": "percent_off", "depth_rate": 0.17},
        {"mechanic": "percent_off", "depth_rate": 0.4, "scope": scope.split(" > ")[0]},
        {"mechanic": "amount_off", "amount": 7.5},
        {"mechanic": "amount_off", "amount": 4.0, "scope": scope},
        {"mechanic": "spend_threshold", "amount": 6.0, "threshold": 48.0},
        {"mechanic": "spend_threshold", "amount": 3.0, "threshold": 12.0, "scope": scope},
        {"mechanic": "product_bundle", "depth_rate": 0.25, "item_ids": items},
        {"mechanic": "message", "contact_cost": 0.05},
    )


def test_tables_conform_to_their_kinds() -> None:
    for kind, name, table in [
        (EVENTS, "events", SHOP.events(IDS)),
        (CATALOG, "catalog", SHOP.catalog()),
        (USERS, "users", SHOP.users(IDS)),
        (CAMPAIGN_LOG, "campaign_log", SHOP.campaign_log(IDS)),
        (CAMPAIGN_LOG, "offers", SHOP.past_offers()),
    ]:
        assert kind.tables[name].conform(table, name).equals(table)
        assert table.num_rows > 0


def test_events_are_sorted_and_lie_in_the_history() -> None:
    events = pl.from_arrow(SHOP.events(IDS))
    assert isinstance(events, pl.DataFrame)
    assert events.select("user_id", "at").equals(
        events.select("user_id", "at").sort("user_id", "at")
    )
    start = np.datetime64(SHOP.start)
    at = events["at"].dt.replace_time_zone(None).to_numpy()
    assert at.min() >= start
    assert at.max() < start + np.timedelta64(SHOP.n_days, "D")
    assert set(events["event_type"]) == {"view", "purchase", "return"}
    bought = events.filter(pl.col("event_type") == "purchase")
    assert bought["quantity"].min() >= 1
    assert bought["discount"].min() >= 0
    share = (events["event_type"] == "return").sum() / len(bought)
    assert 0.01 < share < 0.03


def test_history_has_about_thirty_events_per_user() -> None:
    assert 20 <= SHOP.events(IDS).num_rows / len(IDS) <= 42


def test_catalog_has_plausible_margins_and_endings() -> None:
    catalog = SHOP.catalog().to_pandas()
    margin = 1 - catalog.unit_cost / catalog.list_price
    assert margin.between(0.24, 0.56).all()
    assert np.allclose(catalog.list_price % 1, 0.99)
    assert not catalog.is_active.all()
    assert catalog.category.str.contains(" > ").all()
    elasticity = SHOP.true_elasticity()
    assert elasticity.shape == (SHOP.n_items,)
    assert elasticity.min() >= -4
    assert elasticity.max() <= -1.2


def test_any_subset_in_any_order_gives_the_same_rows() -> None:
    some = [IDS[i] for i in np.random.default_rng(0).permutation(len(IDS))[:200]]
    whole, part = SHOP.events(IDS), SHOP.events(some)
    mask = pc.is_in(whole["user_id"], value_set=pa.array(some))
    assert whole.filter(mask).equals(part)
    rows = pa.array([IDS.index(u) for u in some])
    assert SHOP.users(IDS).take(rows).equals(SHOP.users(some))
    assert SHOP.campaign_log(IDS).take(rows).equals(SHOP.campaign_log(some))
    offers = _untried()
    a, b = SHOP.true_effects(IDS, offers), SHOP.true_effects(some, offers)
    np.testing.assert_allclose(a.value[rows.to_numpy()], b.value, rtol=0, atol=1e-9)
    c, d = SHOP.potential_outcomes(IDS, offers), SHOP.potential_outcomes(some, offers)
    np.testing.assert_allclose(c.margin[rows.to_numpy()], d.margin, rtol=0, atol=1e-9)


def test_seed_changes_the_shop() -> None:
    other = Shop(n_users=1500, seed=4)
    assert not other.events(IDS[:50]).equals(SHOP.events(IDS[:50]))
    assert not other.catalog().equals(SHOP.catalog())


def test_logged_propensities_are_those_of_the_draw() -> None:
    shop = Shop(n_users=20_000, seed=11)
    ids = shop.user_ids()
    chances, log = shop.propensities(ids), shop.campaign_log(ids)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0, atol=1e-12)
    names = [None, *shop.past_offers()["offer_id"].to_pylist()]
    arm = np.array([names.index(a) for a in log["offer_id"].to_pylist()])
    np.testing.assert_array_equal(log["propensity"].to_numpy(), chances[np.arange(len(arm)), arm])
    is_member = shop.users(ids)["attr_is_member"].to_numpy() > 0
    assert 0.07 < is_member.mean() < 0.13
    for group in (is_member, ~is_member):
        seen = np.bincount(arm[group], minlength=len(names))
        assert chisquare(seen, chances[group].sum(axis=0)).pvalue > 0.001
    assert len(np.unique(chances[:, 1:].round(12), axis=0)) == 2  # depends on membership alone


def test_campaign_log_is_the_realised_column_of_the_drawn_arm() -> None:
    offers, log = SHOP.past_offers(), SHOP.campaign_log(IDS)
    outcomes = SHOP.potential_outcomes(IDS, offers)
    names = [None, *offers["offer_id"].to_pylist()]
    arm = [names.index(a) for a in log["offer_id"].to_pylist()]
    rows = np.arange(len(IDS))
    for column, values in [
        ("margin", outcomes.margin),
        ("revenue", outcomes.revenue),
        ("cost", outcomes.discount),
        ("is_conversion", outcomes.is_conversion),
        ("is_visit", outcomes.is_visit),
    ]:
        got = log[column].to_numpy(zero_copy_only=False)
        np.testing.assert_array_equal(got, values[rows, arm])
    assert np.all(outcomes.discount[:, 0] == 0)
    assert np.all(outcomes.is_visit >= outcomes.is_conversion)


def test_exact_expectation_is_the_mean_of_many_realisations() -> None:
    shop = Shop(n_users=400, seed=5)
    ids, offers = shop.user_ids(), _untried()
    traits, truth = traits_of(shop, ids), shop.true_effects(ids, offers)
    contact = offers["contact_cost"].to_numpy()
    value, cost, base = [], [], []
    for k in range(250):
        drawn = outcomes_of(shop, traits, offers, f"replay{k}")
        value.append((drawn.margin[:, 1:] - drawn.margin[:, :1] - contact).mean(axis=0))
        cost.append((drawn.discount[:, 1:] + contact).mean(axis=0))
        base.append(drawn.margin[:, 0].mean())
    for got, want in [
        (np.array(value), truth.value.mean(axis=0)),
        (np.array(cost), truth.cost.mean(axis=0)),
        (np.array(base)[:, None], truth.baseline[None].mean(axis=1)),
    ]:
        error = got.std(axis=0) / np.sqrt(len(got)) + 1e-12
        assert np.all(np.abs(got.mean(axis=0) - want) < 4 * error)
        assert np.all(error < 0.02 * truth.baseline.mean())


def test_exact_expectation_holds_for_single_users() -> None:
    ids, offers = ["u0000007"], _untried()
    traits, truth = traits_of(SHOP, ids), SHOP.true_effects(ids, offers)
    # Many users with the traits of one: only the random numbers differ.
    n = 60_000
    repeated = traits._replace(
        **{k: np.repeat(getattr(traits, k), n, axis=0) for k in traits._fields if k != "keys"},
        keys=np.arange(n, dtype=np.uint64),
    )
    drawn = outcomes_of(SHOP, repeated, offers)
    gain = drawn.margin[:, 1:] - drawn.margin[:, :1] - offers["contact_cost"].to_numpy()
    error = gain.std(axis=0) / np.sqrt(n) + 1e-12
    assert np.all(np.abs(gain.mean(axis=0) - truth.value[0]) < 4.5 * error)
    spent = drawn.discount[:, 1:] + offers["contact_cost"].to_numpy()
    error = spent.std(axis=0) / np.sqrt(n) + 1e-9
    assert np.all(np.abs(spent.mean(axis=0) - truth.cost[0]) < 4.5 * error)


def test_means_of_a_redeeming_order_are_exact_to_a_thousandth() -> None:
    ids = IDS[:4]
    traits, n_points = traits_of(SHOP, ids), 200_000
    baskets = baskets_of(SHOP, traits)
    # A rank-1 lattice with the golden ratio covers order value and second uniform evenly.
    point = np.arange(n_points) + 0.5
    value = np.exp(baskets.mu[:, None] + baskets.sd[:, None] * ndtri(point / n_points))
    pull = np.broadcast_to((point * 0.6180339887498949) % 1.0, value.shape)
    orders = WindowOrders(value, np.ones(value.shape, dtype=bool), pull)
    for response in responses_of(SHOP, traits, _untried()):
        redemption = response.redemption
        is_redeeming, *amounts = redemption.realize(orders)
        np.testing.assert_allclose(is_redeeming.mean(axis=1), redemption.chance, atol=2e-4)
        exact = (redemption.discount, redemption.revenue, redemption.margin)
        for got, mean in zip(amounts, exact, strict=True):
            seen = np.where(is_redeeming, got, 0.0).mean(axis=1)
            np.testing.assert_allclose(seen, redemption.chance * mean, rtol=1e-3, atol=1e-3)


def test_poisson_counts_agree_with_the_quantile_function() -> None:
    rng = np.random.default_rng(1)
    u, rate = rng.random(5000), rng.gamma(1.0, 8.0, 5000)
    np.testing.assert_array_equal(poisson_counts(u, rate), poisson.ppf(u, rate))
    assert poisson_counts(np.array([0.3]), np.array([0.0]))[0] == 0


def test_more_rate_never_gives_fewer_orders() -> None:
    u = np.random.default_rng(2).random((1000, 1))
    counts = poisson_counts(u, np.linspace(0, 20, 40))
    assert np.all(np.diff(counts, axis=1) >= 0)


def test_weekly_item_sales_recover_the_elasticity() -> None:
    shop = Shop(n_users=12_000, seed=2, n_items=40, n_categories=4)
    events = pl.from_arrow(shop.events(shop.user_ids()))
    assert isinstance(events, pl.DataFrame)
    start = pl.lit(shop.start).str.to_datetime(time_zone="UTC")
    sales = (
        events.filter(pl.col("event_type") == "purchase")
        .with_columns(week=((pl.col("at") - start).dt.total_days() // 7))
        .group_by("item_id", "week")
        .agg(units=pl.col("quantity").sum(), price=pl.col("unit_price").first())
    )
    total = sales.group_by("item_id").agg(all=pl.col("units").sum(), n=pl.len())
    sales = sales.join(total.filter((pl.col("all") > 4000) & (pl.col("n") == 26)), on="item_id")
    truth = dict(zip(shop.catalog()["item_id"].to_pylist(), shop.true_elasticity(), strict=True))
    items = sorted(set(sales["item_id"]))
    assert len(items) >= 15
    table = sales.sort("item_id", "week")
    log_units = np.log(table["units"].to_numpy()).reshape(len(items), 26)
    log_price = np.log(table["price"].to_numpy()).reshape(len(items), 26)
    want = np.array([truth[i] for i in items])
    weight = table["units"].to_numpy().reshape(len(items), 26).sum(axis=1)
    estimate = _slopes(log_units, log_price)
    assert np.average(np.abs(estimate - want), weights=weight) < 0.15
    assert abs(np.average(estimate - want, weights=weight)) < 0.08
    assert np.corrcoef(estimate, want)[0, 1] > 0.95


def _slopes(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Slope of each row in a regression with item and week effects (least squares)."""
    n, n_weeks = y.shape
    design = np.zeros((n * n_weeks, n + n + n_weeks - 1))
    row = np.arange(n * n_weeks)
    item, week = row // n_weeks, row % n_weeks
    design[row, item] = x.ravel()
    design[row, n + item] = 1.0
    later = week > 0
    design[row[later], 2 * n + week[later] - 1] = 1.0
    return np.linalg.lstsq(design, y.ravel(), rcond=None)[0][:n]


def test_sleeping_dogs_are_frequent_and_lose_by_any_contact() -> None:
    shop = Shop(n_users=8000, seed=1)
    ids = shop.user_ids()
    traits = traits_of(shop, ids)
    assert 0.10 <= traits.is_dog.mean() <= 0.15
    message = _offers({"mechanic": "message"}).slice(0, 1)
    value = shop.true_effects(ids, message).value[:, 0]
    assert np.all(value[traits.is_dog] < -1)
    assert traits.rate[traits.is_dog].mean() > 1.2 * traits.rate[~traits.is_dog].mean()
    best = shop.true_effects(ids, shop.past_offers()).value.max(axis=1)
    assert (best[traits.is_dog] < 0).mean() > 0.8
    assert (best[~traits.is_dog] > 0).mean() > 0.4


def test_response_targeting_and_one_offer_for_all_are_beaten_by_personal_choice() -> None:
    shop = Shop(n_users=4000, seed=6)
    ids, offers = shop.user_ids(), shop.past_offers()
    value, cost, _ = shop.true_effects(ids, offers)
    best = int(value.mean(axis=0).argmax())
    budget = 0.3 * cost[:, best].sum()
    oracle = _personal(value, cost, budget)
    assert oracle > 1.5 * 0.3 * max(value[:, best].sum(), 0.0)
    assert oracle > value[:, best].sum()
    rate = traits_of(shop, ids).window_rate
    likely = np.argsort(-rate)
    likely = likely[np.cumsum(cost[likely, best]) <= budget]
    assert value[likely, best].sum() < 0.4 * oracle


def _personal(value: np.ndarray, cost: np.ndarray, budget: float) -> float:
    """Worth of the best offer per user at the price of money that fits the budget."""
    rows, low, high = np.arange(len(value)), 0.0, 100.0
    for _ in range(50):
        price = (low + high) / 2
        score = value - price * cost
        pick = score.argmax(axis=1)
        taken = score[rows, pick] > 0
        low, high = (price, high) if cost[rows, pick][taken].sum() > budget else (low, price)
    return float(value[rows, pick][taken].sum())


def test_window_noise_does_not_drown_the_effects() -> None:
    log = SHOP.campaign_log(IDS)
    truth = SHOP.true_effects(IDS, SHOP.past_offers())
    assert np.std(log["margin"].to_numpy()) < 5.5 * truth.value.std()


def test_a_tiny_discount_has_no_pull_and_a_message_costs_its_contact() -> None:
    calm = Shop(n_users=300, dog_strength=0.0, lapse_boost=0.0, background_aversion=0.0)
    ids = calm.user_ids()
    offers = _offers(
        {"mechanic": "percent_off", "depth_rate": 0.01, "contact_cost": 0.0},
        {"mechanic": "message", "contact_cost": 0.3},
    )
    found = calm.true_effects(ids, offers)
    np.testing.assert_allclose(found.value[:, 0], -found.cost[:, 0], atol=1e-9)
    np.testing.assert_allclose(found.value[:, 1], -0.3, atol=1e-12)
    np.testing.assert_allclose(found.cost[:, 1], 0.3)


def test_deeper_discounts_cost_more_and_lift_no_less() -> None:
    rows = [{"mechanic": "percent_off", "depth_rate": d} for d in (0.0, 0.1, 0.2, 0.4, 1.0)]
    outcomes = SHOP.potential_outcomes(IDS, _offers(*rows))
    assert np.all(np.diff(outcomes.discount[:, 1:].mean(axis=0)) > 0)
    cost = SHOP.true_effects(IDS, _offers(*rows)).cost
    assert np.all(np.diff(cost, axis=1) >= 0)


def test_a_threshold_out_of_reach_gives_nothing_away() -> None:
    offers = _offers({"mechanic": "spend_threshold", "amount": 5.0, "threshold": 1e6})
    found = SHOP.true_effects(IDS, offers)
    np.testing.assert_allclose(found.cost, 0.1, atol=1e-9)


def test_threshold_orders_bunch_at_the_threshold() -> None:
    offers = _offers({"mechanic": "spend_threshold", "amount": 8.0, "threshold": 60.0})
    outcomes = SHOP.potential_outcomes(IDS, offers)
    paid = outcomes.revenue[:, 1]
    assert np.isclose(paid, 52.0).sum() > 5  # single orders raised to exactly 60, less 8


@pytest.mark.parametrize(
    "row",
    [
        {"mechanic": "lottery"},
        {"mechanic": "percent_off"},
        {"mechanic": "percent_off", "depth_rate": 1.5},
        {"mechanic": "percent_off", "depth_rate": float("nan")},
        {"mechanic": "percent_off", "depth_rate": 0.1, "scope": "Nowhere"},
        {"mechanic": "amount_off", "amount": -1.0},
        {"mechanic": "spend_threshold", "amount": 5.0},
        {"mechanic": "product_bundle", "depth_rate": 0.1, "item_ids": ["i00001", "none"]},
        {"mechanic": "message", "contact_cost": -0.5},
    ],
)
def test_impossible_offers_are_refused_with_their_row(row: dict[str, object]) -> None:
    with pytest.raises(DataError) as caught:
        SHOP.true_effects(IDS[:3], _offers({"mechanic": "message"}, row))
    assert caught.value.where == "offers row 1"


@pytest.mark.parametrize(
    "settings",
    [
        {"n_users": 0},
        {"n_items": 10, "n_categories": 8},
        {"control_share": 1.0},
        {"n_past_offers": 10},
        {"start": "soon"},
        {"seed": -1},
        {"currency": "dollars"},
        {"promotion_share": 0.9},
        {"color": "red"},
    ],
)
def test_bad_settings_give_one_clear_line(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Shop, settings)
    assert "\n" not in str(caught.value)


def test_settings_survive_a_round_trip() -> None:
    assert parse(Shop, resolve(SHOP)) == SHOP


def test_small_shop_works() -> None:
    shop = Shop(n_users=5, n_items=2, n_categories=1, n_days=14, n_past_offers=1)
    ids = shop.user_ids()
    assert shop.campaign_log(ids).num_rows == 5
    assert shop.catalog().num_rows == 2
    assert shop.events(ids).schema.equals(EVENTS.tables["events"].schema)
    assert shop.events([]).num_rows == 0
