import pyarrow as pa
import pytest

from promo_ray.errors import DataError
from promo_ray.profiles.lifecycle import SEGMENTS, Lifecycle, segments
from promo_ray.profiles.user_table import user_table


def row(config=None, **values):
    base = {
        "n_events": 20,
        "frequency": 8,
        "orders_91d": 3,
        "recency_days": 10.0,
        "first_order_days": 300.0,
        "tenure_days": 320.0,
        "gap_p90_days": 30.0,
    }
    kinds = {k: pa.int32() if isinstance(v, int) else pa.float64() for k, v in base.items()}
    columns = {k: pa.array([v], kinds.get(k, pa.float64())) for k, v in (base | values).items()}
    return segments(pa.table(columns), config)[0]


NO_ORDER = {
    "frequency": 0,
    "orders_91d": 0,
    "recency_days": None,
    "first_order_days": None,
    "gap_p90_days": None,
}


@pytest.mark.parametrize(
    ("values", "segment"),
    [
        ({"n_events": 0, "frequency": 0, "recency_days": None, "gap_p90_days": None}, "unknown"),
        (NO_ORDER, "low_frequency"),
        (NO_ORDER | {"tenure_days": 20.0}, "new"),
        (NO_ORDER | {"attr_is_member": 1.0}, "member"),
        ({"attr_is_member": 1.0}, "member"),
        ({"attr_is_member": None}, "low_frequency"),
        ({"attr_is_member": 1.0, "orders_91d": 6}, "high_frequency"),
        ({"attr_is_member": 1.0, "recency_days": 31.0}, "lapsing"),
        ({}, "low_frequency"),
        ({"orders_91d": 6}, "high_frequency"),
        ({"recency_days": 30.1}, "lapsing"),
        ({"recency_days": 60.1}, "lapsed"),
        # a user who orders twice a year is not lapsing after two months
        ({"recency_days": 60.1, "gap_p90_days": 150.0}, "low_frequency"),
        # too few orders for an own rhythm: the default of 45 days
        ({"frequency": 2, "recency_days": 44.0, "gap_p90_days": 5.0}, "low_frequency"),
        ({"frequency": 2, "recency_days": 46.0, "gap_p90_days": 5.0}, "lapsing"),
        ({"frequency": 1, "first_order_days": 20.0, "gap_p90_days": None}, "new"),
        ({"first_order_days": 20.0, "recency_days": 2.0, "gap_p90_days": 1.0}, "new"),
    ],
)
def test_rules(values, segment):
    assert row(**values) == segment


def test_thresholds_come_from_the_config():
    assert row(Lifecycle(high_orders_91d=3)) == "high_frequency"
    assert row(Lifecycle(member_column="attr_club"), attr_club=1.0) == "member"


def test_every_user_of_a_shop_has_a_known_segment(shop, as_of):
    users, events, catalog = shop
    got = segments(user_table(events, users, catalog, as_of))
    assert len(got) == users.num_rows
    assert set(got) <= set(SEGMENTS)
    assert got.count("unknown") >= 30


def test_bad_thresholds_and_columns_are_refused():
    with pytest.raises(ValueError, match="lapsed_factor must be >= 1"):
        Lifecycle(lapsed_factor=0.5)
    with pytest.raises(DataError, match="'n_events'"):
        segments(pa.table({"frequency": [1]}))
