import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from promo_ray.artifacts.events import SCHEMA

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
DATA = Path(os.environ.get("PROMO_RAY_DATA", Path(__file__).parents[2] / "../shared/data"))


def events_of(frame: pd.DataFrame) -> pa.Table:
    """Purchases of columns user_id, item_id, at and perhaps order_id, sorted by user and time."""
    frame = frame.sort_values(["user_id", "at", "item_id"], kind="stable")
    n = len(frame)
    columns = {
        "user_id": frame["user_id"].astype(str).tolist(),
        "item_id": frame["item_id"].astype(str).tolist(),
        "event_type": ["purchase"] * n,
        "at": pa.array(pd.to_datetime(frame["at"], utc=True).dt.as_unit("us")),
        "quantity": [1] * n,
        "unit_price": [1.0] * n,
        "order_id": frame["order_id"].astype(str).tolist() if "order_id" in frame else [None] * n,
    }
    full = {name: columns.get(name, [None] * n) for name in SCHEMA.names}
    return pa.table(full, schema=SCHEMA)


def shards_of(events: pa.Table, n_shards: int) -> list[pa.Table]:
    """Events split by user at random."""
    owner = np.array(events["user_id"].to_pylist())
    users = np.unique(owner)
    shard = np.random.default_rng(n_shards).integers(0, n_shards, len(users))
    place = shard[np.searchsorted(users, owner)]
    return [events.filter(pa.array(place == s)) for s in range(n_shards)]


@pytest.fixture(scope="session")
def as_of():
    return AS_OF


@pytest.fixture(scope="session")
def make_events():
    return events_of


@pytest.fixture(scope="session")
def split_users():
    return shards_of


@pytest.fixture(scope="session")
def events():
    """Purchases of 200 users in two tastes, some items far more popular, over 100 days."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(200):
        weight = rng.pareto(1.5, 30) * np.where(np.arange(30) % 2 == user % 2, 8.0, 1.0)
        for item in rng.choice(30, rng.integers(1, 15), p=weight / weight.sum()):
            at = AS_OF - timedelta(seconds=int(rng.integers(1, 100 * 86400)))
            rows.append((f"u{user:03d}", f"i{item:02d}", at))
    return events_of(pd.DataFrame(rows, columns=["user_id", "item_id", "at"]))


@pytest.fixture(scope="session")
def groceries():
    path = DATA / "groceries" / "baskets.parquet"
    if not path.exists():
        pytest.skip(f"data set groceries is not at {path.parent}")
    baskets = pd.read_parquet(path)
    frame = baskets.rename(columns={"basket": "user_id", "item": "item_id"})
    return baskets, events_of(frame.assign(at=AS_OF - timedelta(days=1)))


@pytest.fixture(scope="session")
def online_retail():
    """Purchases of the customers whose number ends in 0 to 4."""
    path = DATA / "online_retail" / "year_2009_2010.parquet"
    if not path.exists():
        pytest.skip(f"data set online_retail is not at {path.parent}")
    lines = pd.read_parquet(path).dropna(subset=["customer_id"])
    lines = lines[(lines["quantity"] > 0) & (lines["customer_id"] % 10 < 5)]
    return events_of(
        pd.DataFrame(
            {
                "user_id": lines["customer_id"].astype(int).astype(str),
                "item_id": lines["stock_code"].astype(str),
                "at": lines["invoice_date"],
                "order_id": lines["invoice"],
            }
        )
    )
