from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.errors import DataError
from promo_ray.offers import (
    AmountOff,
    Message,
    Offer,
    PercentOff,
    ProductBundle,
    Scope,
    SpendThreshold,
    Stacking,
    Window,
    from_terms,
)
from promo_ray.registry import methods

OFFERS = [
    Offer(id="p", currency="USD", mechanic=PercentOff(1250, max_amount=500), contact_cost=3),
    Offer(
        id="a",
        currency="JPY",
        mechanic=AmountOff(300, per="unit"),
        scope=Scope(categories=("food > tea",), item_ids=("i1",)),
        label="茶 300円",
    ),
    Offer(
        id="t",
        currency="EUR",
        mechanic=SpendThreshold(5000, 1000, "list"),
        window=Window(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 2, 2, tzinfo=UTC)),
        stacking=Stacking(layer="item", priority=-2, base="initial"),
    ),
    Offer(id="b", currency="USD", mechanic=ProductBundle(("i1", "i2"), bp=1000)),
    Offer(id="m", currency="USD", mechanic=Message(), contact_cost=80),
]


def row(**columns: Any) -> dict[str, Any]:
    base = dict.fromkeys(OFFER_TERMS.names)
    return {**base, "offer_id": "x", "contact_cost": 0.0, "label": "", **columns}


@pytest.mark.parametrize("offer", OFFERS, ids=lambda o: o.id)
def test_json_round_trip_keeps_offer_and_bytes(offer: Offer) -> None:
    text = offer.to_json()
    again = Offer.from_json(text)
    assert again == offer
    assert again.to_json() == text
    assert hash(again) == hash(offer)


def test_every_mechanic_is_registered_by_its_file() -> None:
    assert set(methods("offers")) == {o.mechanic.method for o in OFFERS}


@pytest.mark.parametrize(
    ("path", "match"),
    [((), "offer: unknown key"), (("mechanic",), "mechanic: unknown key"), (("scope",), "scope")],
)
def test_unknown_keys_are_refused(path: tuple[str, ...], match: str) -> None:
    plain = json.loads(OFFERS[0].to_json())
    node = plain
    for key in path:
        node = node[key]
    node["surprise"] = 1
    with pytest.raises(DataError, match=match):
        Offer.from_json(json.dumps(plain))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"mechanic": {"type": "roulette"}}, r"mechanic\.type: must be one of amount_off"),
        ({"mechanic": {"type": "percent_off"}}, "key 'bp' must be present"),
        ({"mechanic": {"type": "percent_off", "bp": 10.5}}, r"percent_off\.bp"),
        ({"contact_cost": -1}, "contact_cost"),
        ({"currency": "usd"}, "currency"),
        ({"schema_version": 2}, "schema_version"),
        ({"window": {"start_at": "soon"}}, "ISO time"),
        ({"window": {"start_at": "2026-01-05T00:00:00"}}, "time zone"),
        ({"stacking": {"layer": "moon"}}, r"stacking\.layer"),
        ({"id": ""}, r"offer\.id"),
    ],
)
def test_bad_json_names_the_field(changes: dict[str, Any], match: str) -> None:
    plain = {**json.loads(OFFERS[0].to_json()), **changes}
    with pytest.raises(DataError, match=match):
        Offer.from_json(json.dumps(plain))


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(DataError, match="must be JSON"):
        Offer.from_json("{")


def test_times_of_other_zones_become_utc() -> None:
    zone = timezone(timedelta(hours=2))
    assert Window(datetime(2026, 1, 5, 2, tzinfo=zone)) == Window(datetime(2026, 1, 5, tzinfo=UTC))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: PercentOff(0), r"percent_off\.bp"),
        (lambda: PercentOff(10_001), r"percent_off\.bp"),
        (lambda: AmountOff(-5), r"amount_off\.amount"),
        (lambda: SpendThreshold(100, 101), r"spend_threshold\.amount"),
        (lambda: ProductBundle(("a",), bp=1), r"product_bundle\.item_ids"),
        (lambda: ProductBundle(("a", "b")), "either bp or price"),
    ],
)
def test_mechanics_refuse_values_out_of_range(make: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        make()


@pytest.mark.parametrize(
    ("offer", "text"),
    [
        (OFFERS[0], "12.5% off everything, at most 5.00 USD"),
        (OFFERS[1], "300 JPY off tea, i1 for every unit"),
        (OFFERS[2], "Spend 50.00 EUR on everything, save 10.00 EUR"),
        (OFFERS[3], "10% off i1 + i2 bought together"),
        (OFFERS[4], "A message, no price change"),
    ],
)
def test_descriptions_are_plain_words(offer: Offer, text: str) -> None:
    assert offer.describe() == text


@pytest.mark.parametrize(
    ("terms", "mechanic"),
    [
        (row(mechanic="percent_off", depth_rate=0.15), PercentOff(1500)),
        (row(mechanic="amount_off", amount=1.005), AmountOff(101)),  # half up on the decimal form
        (row(mechanic="spend_threshold", amount=5.0, threshold=50.0), SpendThreshold(5000, 500)),
        (
            row(mechanic="product_bundle", depth_rate=0.1, item_ids=["i1", "i2"]),
            ProductBundle(("i1", "i2"), bp=1000),
        ),
        (row(mechanic="message", amount=float("nan")), Message()),
    ],
)
def test_terms_become_minor_units_and_basis_points(terms: dict[str, Any], mechanic: Any) -> None:
    offer = from_terms(terms)
    assert offer.mechanic == mechanic
    assert from_terms(offer.to_terms()) == offer


@given(st.integers(1, 10**9), st.sampled_from(["USD", "JPY", "BHD"]))
def test_amounts_survive_terms_in_every_currency(amount: int, currency: str) -> None:
    offer = Offer(
        id="x",
        currency=currency,
        mechanic=AmountOff(amount),
        contact_cost=amount,
        scope=Scope(categories=("a > b",)),
    )
    terms = offer.to_terms()
    assert set(terms) == set(OFFER_TERMS.names)
    assert from_terms(terms, currency) == offer


@pytest.mark.parametrize(
    ("terms", "match"),
    [
        (row(mechanic="raffle"), "offer 'x': mechanic"),
        (row(mechanic="percent_off"), "needs column 'depth_rate'"),
        (row(mechanic="percent_off", depth_rate=1.5), r"percent_off\.bp"),
        (row(mechanic="amount_off", amount=5.0, depth_rate=0.1), "must have null 'depth_rate'"),
        (row(mechanic="message", contact_cost=-1.0), "contact_cost"),
    ],
)
def test_bad_terms_name_the_offer_or_field(terms: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        from_terms(terms)


def test_terms_refuse_what_they_cannot_hold() -> None:
    with pytest.raises(DataError, match="max_amount"):
        OFFERS[0].to_terms()
    with pytest.raises(DataError, match="scope"):
        Offer(
            id="s", currency="USD", mechanic=PercentOff(100), scope=Scope(item_ids=("i",))
        ).to_terms()


def test_serving_can_load_offers_without_heavy_packages() -> None:
    code = (
        "import sys, promo_ray.offers as o\n"
        "o.Offer.from_json(o.Offer(id='m', currency='USD', mechanic=o.Message()).to_json())\n"
        "print(sorted({'torch', 'pyarrow', 'pandas', 'ray', 'sklearn'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
