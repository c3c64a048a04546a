from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from promo_ray.artifacts.events import SCHEMA as EVENTS
from promo_ray.artifacts.users import SCHEMA as USERS

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)


def events_of(rows: list[dict]) -> pa.Table:
    names = EVENTS.names
    full = [
        {"item_id": "i0", "event_type": "purchase", "quantity": 1, "unit_price": 1.0} | row
        for row in rows
    ]
    return pa.table({n: [row.get(n) for row in full] for n in names}, schema=EVENTS)


def users_of(ids: list[str]) -> pa.Table:
    return pa.table({"user_id": ids, "is_consenting": [None] * len(ids)}, schema=USERS)


def catalog_of(n_items: int) -> pa.Table:
    return pa.table(
        {
            "item_id": [f"i{i}" for i in range(n_items)],
            "category": [f"c{i % 4}" for i in range(n_items)],
            "list_price": [2.0 + i for i in range(n_items)],
        }
    )


def random_events(user_ids: list[str], seed: int, n_items: int = 12) -> pa.Table:
    rng = np.random.default_rng(seed)
    rows = []
    for user in user_ids:
        for _ in range(rng.poisson(6)):
            at = AS_OF - timedelta(seconds=float(rng.integers(1, 200 * 86400)))
            for _ in range(rng.integers(1, 4)):
                item = int(rng.integers(n_items))
                off = float(rng.choice([0.0, 0.0, 0.1, 0.3]))
                n = int(rng.integers(1, 4))
                price = 2.0 + item
                kind = str(rng.choice(["purchase", "purchase", "purchase", "view", "return"]))
                rows.append(
                    {
                        "user_id": user,
                        "item_id": f"i{item}",
                        "event_type": kind,
                        "at": at,
                        "quantity": n,
                        "unit_price": round(price * (1 - off), 2),
                        "discount": round(price * off * n, 2),
                    }
                )
    rows.sort(key=lambda r: (r["user_id"], r["at"]))
    return events_of(rows)


@pytest.fixture(scope="session")
def shop():
    """Users (every tenth without events), events and catalog of a random shop."""
    ids = [f"u{i:03d}" for i in range(300)]
    users = users_of(ids)
    rng = np.random.default_rng(3)
    users = users.append_column(
        "attr_age", pa.array(rng.normal(40, 9, 300), mask=rng.random(300) < 0.1)
    )
    users = users.append_column(
        "attr_region", pa.array(rng.choice(["n", "s", "e", "w"], 300).tolist(), pa.string())
    )
    users = users.append_column("protected_sex", pa.array(["f", "m"] * 150))
    return users, random_events([u for i, u in enumerate(ids) if i % 10], 5), catalog_of(12)


@pytest.fixture(scope="session")
def as_of():
    return AS_OF


@pytest.fixture(scope="session")
def make_events():
    return events_of


@pytest.fixture(scope="session")
def make_users():
    return users_of


@pytest.fixture(scope="session")
def make_catalog():
    return catalog_of
