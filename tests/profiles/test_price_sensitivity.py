import numpy as np
import pyarrow as pa
import pytest

from promo_ray.execution import iterate
from promo_ray.profiles.price_sensitivity import PriceModel, PriceSensitivity, price_sensitivity
from promo_ray.profiles.user_table import user_table


def simulated(n_users=4000, mean=-0.1, between=0.05, within=0.15, seed=0):
    rng = np.random.default_rng(seed)
    level = rng.normal(0, between, n_users)
    n = rng.integers(0, 30, n_users)
    lines = [rng.normal(mean + b, within, k) for b, k in zip(level, n, strict=True)]
    table = pa.table(
        {
            "price_lines": pa.array(n, pa.int32()),
            "price_log_mean": pa.array([y.mean() if len(y) else None for y in lines]),
            "price_log_ss": pa.array(
                [((y - y.mean()) ** 2).sum() if len(y) else None for y in lines]
            ),
        }
    )
    return table, level, n


def test_variance_components_are_recovered():
    table, _, n = simulated()
    model = iterate(PriceSensitivity(), [table]).state
    assert model.n_lines == n.sum()
    assert model.mean == pytest.approx(-0.1, abs=0.005)
    assert model.var_within**0.5 == pytest.approx(0.15, rel=0.02)
    assert model.var_between**0.5 == pytest.approx(0.05, rel=0.05)


def test_shrinking_beats_the_raw_mean_and_equals_the_linear_predictor():
    table, level, n = simulated(seed=1)
    model = iterate(PriceSensitivity(), [table]).state
    got = price_sensitivity(table, model).to_numpy(zero_copy_only=False)
    seen = n > 0
    raw = table["price_log_mean"].to_numpy() - model.mean
    shrunk_error = np.mean((got - level)[seen] ** 2)
    assert shrunk_error < 0.75 * np.mean((raw - level)[seen] ** 2)
    assert shrunk_error < np.mean(level[seen] ** 2)
    weight = n * model.var_between / (n * model.var_between + model.var_within)
    np.testing.assert_allclose(got[seen], (raw * weight)[seen])


def test_states_have_the_same_bits_for_any_split():
    table, _, _ = simulated(n_users=700)
    one = iterate(PriceSensitivity(), [table]).state
    for n_shards in (7, 64):
        shards = [table.take(p) for p in np.array_split(np.arange(700), n_shards)]
        assert iterate(PriceSensitivity(), shards).state == one


def test_users_without_lines_are_null_and_prices_without_spread_give_zero(shop, as_of):
    users, events, catalog = shop
    table = user_table(events, users, catalog, as_of)
    model = iterate(PriceSensitivity(), [table]).state
    got = price_sensitivity(table, model)
    assert got.null_count == sum(n == 0 for n in table["price_lines"].to_pylist()) > 0
    flat = price_sensitivity(table, PriceModel(5, 9, 0.0, 0.0, 0.0))
    assert set(flat.drop_null().to_pylist()) == {0.0}


def test_data_that_cannot_tell_the_components_give_zero():
    table = pa.table(
        {
            "price_lines": pa.array([1, 1], pa.int32()),
            "price_log_mean": [-0.5, 0.0],
            "price_log_ss": [0.0, 0.0],
        }
    )
    model = iterate(PriceSensitivity(), [table]).state
    assert price_sensitivity(table, model).to_pylist() == [0.0, 0.0]
