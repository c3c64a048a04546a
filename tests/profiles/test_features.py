import numpy as np
import pyarrow as pa
import pytest

from promo_ray.errors import ConfigError, DataError
from promo_ray.execution import iterate
from promo_ray.profiles.features import Features, feature_matrix
from promo_ray.profiles.user_table import user_table


@pytest.fixture(scope="module")
def table(shop, as_of):
    users, events, catalog = shop
    return user_table(events, users, catalog, as_of)


def test_shards_give_the_same_columns_and_bits(table):
    spec = iterate(Features(), [table]).state
    names, whole = feature_matrix(table, spec)
    for n_shards in (7, 64):
        parts = np.array_split(np.arange(table.num_rows), n_shards)
        shards = [table.take(p) for p in parts]
        assert iterate(Features(), shards).state == spec
        matrices = [feature_matrix(s, spec) for s in shards]
        assert {m[0] for m in matrices} == {names}
        np.testing.assert_array_equal(np.concatenate([m[1] for m in matrices]), whole)


def test_features_have_names_no_gaps_and_no_protected_column(table):
    exposed = table.append_column("protected_sex", pa.array(["f"] * table.num_rows))
    exposed = exposed.append_column("protected_age", pa.array(np.arange(table.num_rows) * 1.0))
    spec = iterate(Features(), [exposed]).state
    names, x = feature_matrix(exposed, spec)
    assert x.shape == (table.num_rows, len(names))
    assert names == spec.names
    assert len(set(names)) == len(names)
    assert all(n.startswith("x_") and "protected" not in n for n in names)
    assert np.all(np.isfinite(x))


def test_values_are_logs_means_for_gaps_and_indicators(table):
    names, x = feature_matrix(table, iterate(Features(), [table]).state)
    column = dict(zip(names, x.T, strict=True))
    days = table["recency_days"].to_numpy()
    missing = np.isnan(days)
    np.testing.assert_array_equal(column["x_is_missing_recency_days"], missing)
    np.testing.assert_array_equal(column["x_recency_days"][~missing], np.log1p(days[~missing]))
    np.testing.assert_allclose(column["x_recency_days"][missing], np.log1p(days[~missing]).mean())
    ages = table["attr_age"].to_numpy()
    known = ~np.isnan(ages)
    np.testing.assert_array_equal(column["x_attr_age"][known], ages[known])
    np.testing.assert_array_equal(
        column["x_attr_region=n"], np.array(table["attr_region"].to_pylist()) == "n"
    )


def test_columns_missing_for_the_same_users_share_an_indicator(table):
    names = iterate(Features(), [table]).state.names
    assert "x_is_missing_recency_days" in names
    assert "x_is_missing_monetary" not in names
    assert "x_is_missing_gap_mean_days" in names


def test_columns_that_never_vary_are_left_out():
    table = pa.table(
        {
            "frequency": [0, 0],
            "monetary": pa.array([None, None], pa.float64()),
            "attr_one": ["a", "a"],
            "attr_flag": [True, False],
        }
    )
    names, x = feature_matrix(table, iterate(Features(), [table]).state)
    assert names == ("x_attr_flag",)
    assert x.tolist() == [[1.0], [0.0]]


def test_levels_are_capped_with_the_rest_in_other():
    levels = ["a"] * 5 + ["b"] * 4 + ["c"] * 4 + ["d", None]
    table = pa.table({"attr_city": levels})
    spec = iterate(Features(max_levels=2), [table.slice(0, 7), table.slice(7)]).state
    names, x = feature_matrix(table, spec)
    assert names == (
        "x_attr_city=a",
        "x_attr_city=b",
        "x_attr_city=(other)",
        "x_is_missing_attr_city",
    )
    assert x.sum(axis=0).tolist() == [5, 4, 5, 1]
    _, unseen = feature_matrix(pa.table({"attr_city": ["z"]}), spec)
    assert unseen.tolist() == [[0.0, 0.0, 1.0, 0.0]]


def test_bad_input_is_refused():
    table = pa.table({"attr_zip": [str(i) for i in range(30)]})
    with pytest.raises(DataError, match="at most 20 levels; got 30"):
        iterate(Features(max_levels=5, max_distinct=20), [table])
    with pytest.raises(DataError, match="same columns"):
        iterate(Features(), [table, table.rename_columns(["attr_x"])])
    with pytest.raises(ConfigError, match="max_levels"):
        Features(max_levels=0)
    spec = iterate(Features(), [table]).state
    with pytest.raises(DataError, match="'attr_zip' must be present"):
        feature_matrix(pa.table({"a": [1]}), spec)
