import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promo_ray.errors import DataError
from promo_ray.execution import iterate
from promo_ray.profiles.rfm import Rfm, quintile, quintiles, rfm_values


def table(days, orders, spend):
    return pa.table(
        {
            "recency_days": pa.array(days, pa.float64()),
            "frequency": pa.array(orders, pa.int32()),
            "monetary": pa.array(spend, pa.float64()),
        }
    )


def random_table(n, seed=0):
    rng = np.random.default_rng(seed)
    orders = rng.geometric(0.4, n)
    return table(rng.exponential(60, n), orders, np.round(rng.lognormal(3, 1.5, n), 2))


def by_pandas(values):
    """Quintiles with edges by the inverse distribution function, right-closed."""
    edges = np.quantile(values, [0.2, 0.4, 0.6, 0.8], method="inverted_cdf")
    bins = np.array([-np.inf, *edges, np.inf])
    lowest = pd.Series(np.arange(1, 6)).groupby(bins[1:]).min()  # equal edges: the lowest wins
    cut = pd.cut(pd.Series(values, dtype=float), np.unique(bins), right=True)
    return np.array([lowest[interval.right] for interval in cut])


def test_quintiles_equal_pandas_on_exact_global_quantiles():
    whole = random_table(3000)
    state = iterate(Rfm(), [whole.slice(i * 300, 300) for i in range(10)]).state
    got = quintiles(whole, state)
    for column, values in zip(("r", "f", "m"), rfm_values(whole), strict=True):
        np.testing.assert_array_equal(got[f"{column}_quintile"].to_numpy(), by_pandas(values))


def test_five_is_recent_frequent_and_valuable():
    whole = table([1, 40, 80, 120, 200], [9, 7, 5, 3, 1], [90.0, 70.0, 50.0, 30.0, 10.0])
    got = quintiles(whole, iterate(Rfm(), [whole]).state)
    for name in got.column_names:
        assert got[name].to_pylist() == [5, 4, 3, 2, 1]


@settings(max_examples=40, deadline=None)
@given(
    cents=st.lists(st.integers(0, 10**10), min_size=1, max_size=60),
    n_shards=st.integers(1, 7),
)
def test_edges_are_exact_for_any_values_and_split(cents, n_shards):
    whole = table([0.0] * len(cents), [1] * len(cents), [c / 100 for c in cents])
    shards = [whole.take(i) for i in np.array_split(np.arange(len(cents)), n_shards)]
    state = iterate(Rfm(), shards).state
    expected = np.quantile(cents, [0.2, 0.4, 0.6, 0.8], method="inverted_cdf")
    np.testing.assert_array_equal(state.low[2], expected)


def test_states_are_small_and_equal_for_any_split():
    whole = random_table(2000, seed=1)
    one = iterate(Rfm(), [whole]).state
    for n_shards in (7, 64):
        parts = np.array_split(np.arange(2000), n_shards)
        result = iterate(Rfm(), [whole.take(p) for p in parts])
        np.testing.assert_array_equal(result.state.low, one.low)
        assert result.n_iter <= 5


def test_ties_share_a_quintile_and_leave_others_empty():
    edges = np.array([1, 1, 1, 2])
    assert quintile(np.array([1, 1, 2, 3]), edges).tolist() == [1, 1, 4, 5]


def test_users_without_an_order_have_no_quintile_and_do_not_count():
    whole = table([None, 3.0, 9.0], [0, 2, 1], [None, 5.0, 8.0])
    state = iterate(Rfm(), [whole, whole.slice(0, 1)]).state
    assert state.n == 2
    got = quintiles(whole, state)
    assert got["r_quintile"].to_pylist()[0] is None
    assert got.schema.field("m_quintile").type == pa.int8()


def test_no_order_anywhere_gives_nulls():
    whole = table([None], [0], [None])
    assert quintiles(whole, iterate(Rfm(), [whole]).state)["f_quintile"].to_pylist() == [None]


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="'monetary' must be present"):
        iterate(Rfm(), [random_table(5).drop_columns(["monetary"])])
