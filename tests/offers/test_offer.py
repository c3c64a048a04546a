from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promo_ray.artifacts.columns import OFFER_TERMS
from promo_ray.bench.offers_cases import Draw, draw_offer
from promo_ray.errors import DataError
from promo_ray.offers import (
    AmountOff,
    Audience,
    BuyGet,
    Caps,
    FixedPrice,
    FreeShipping,
    Gift,
    Message,
    Offer,
    PercentOff,
    Predicted,
    ProductBundle,
    Provenance,
    Scope,
    Selection,
    Slot,
    Stacking,
    Tier,
    Tiered,
    Trigger,
    Window,
    check_offers,
    from_terms,
    offer_schema,
)
from promo_ray.registry import methods
from promo_ray.seeding import stream

ROOT = Path(__file__).parents[2]
OFFERS = [
    Offer(id="p", currency="USD", mechanic=PercentOff(bp=1250, max_amount=500), contact_cost=3),
    Offer(
        id="a",
        version=7,
        currency="JPY",
        mechanic=AmountOff(amount=300, per="unit"),
        scope=Scope(
            include=Selection(categories=("food > tea",), products=("i1",)),
            exclude=Selection(brands=("best",)),
            skip_on_sale=True,
            max_units=2,
        ),
        label="茶 300円",
    ),
    Offer(
        id="t",
        currency="EUR",
        mechanic=Tiered(tiers=(Tier(min=5000, amount=1000), Tier(min=9000, bp=2000))),
        trigger=Trigger(
            kind="shared_code",
            code="SPRING",
            min_units=2,
            required_scope=Scope.of(tags=("new",)),
            spend_basis="list",
        ),
        audience=Audience(
            segments_any=("loyal",), countries=("DE",), holdout_bp=500, salt="2026-w1"
        ),
        window=Window(
            start_at=datetime(2026, 1, 5, tzinfo=UTC),
            end_at=datetime(2026, 2, 2, 1, 2, 3, 456, tzinfo=UTC),
            weekdays=("mon", "fri"),
            from_hour=17,
            to_hour=2,
            timezone="Europe/Berlin",
        ),
        stacking=Stacking(
            layer="item",
            priority=-2,
            group="g",
            in_group="best",
            combines_with=("order",),
            base="initial",
        ),
        caps=Caps(budget=10_000, uses_per_user=1, min_margin_bp=1500, period="week"),
        provenance=Provenance(
            campaign="winter",
            model_version="m3",
            predicted=Predicted(uplift=0.1, lo=-0.25, hi=0.3, cost=1 / 3),
            reason="low frequency",
        ),
    ),
    Offer(id="b", currency="USD", mechanic=ProductBundle.of_items("i1", "i2", bp=1000)),
    Offer(id="m", currency="USD", mechanic=Message(), contact_cost=80),
    Offer(id="f", currency="USD", mechanic=FixedPrice(price=999)),
    Offer(
        id="g",
        currency="USD",
        mechanic=BuyGet(buy=Slot(quantity=2), get=Slot(scope=Scope.of(brands=("x",))), max_times=1),
    ),
    Offer(id="gift", currency="USD", mechanic=Gift(sku="mug", choice_of=("cup",))),
    Offer(id="s", currency="USD", mechanic=FreeShipping(max_amount=500, methods=("post",))),
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
    jsonschema.validate(json.loads(text), offer_schema())


def test_random_offers_survive_json_and_meet_the_published_schema() -> None:
    draw = Draw(stream(3, "test_offer"))
    validator = jsonschema.Draft202012Validator(offer_schema())
    for i in range(200):
        offer = draw_offer(draw, f"o{i}")
        assert Offer.from_json(offer.to_json()) == offer
        validator.validate(offer.to_mapping())


def test_published_schema_is_current() -> None:
    published = (ROOT / "docs" / "offers.schema.json").read_text()
    assert published == json.dumps(offer_schema(), indent=2) + "\n"


def test_published_schema_refuses_what_the_code_refuses() -> None:
    validator = jsonschema.Draft202012Validator(offer_schema())
    for changes in BAD_JSON:
        if "window" in changes or "currency" in changes or "trigger" in changes:
            continue  # rules between fields and formats are not in a schema
        assert not validator.is_valid({**json.loads(OFFERS[0].to_json()), **changes}), changes


def test_every_mechanic_is_registered_by_its_file() -> None:
    assert set(methods("offers.mechanics")) == {o.mechanic.method for o in OFFERS}


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ((), "offer: unknown key"),
        (("mechanic",), "mechanic: unknown key"),
        (("scope",), "scope: unknown key"),
        (("scope", "include"), "include: unknown key"),
    ],
)
def test_unknown_keys_are_refused(path: tuple[str, ...], match: str) -> None:
    plain = json.loads(OFFERS[1].to_json())
    node = plain
    for key in path:
        node = node[key]
    node["surprise"] = 1
    with pytest.raises(DataError, match=match):
        Offer.from_json(json.dumps(plain))


BAD_JSON_CASES = [
    ({"mechanic": {"type": "roulette"}}, r"mechanic\.type: must be one of amount_off"),
    ({"mechanic": {"type": "percent_off"}}, "key 'bp' must be present"),
    ({"mechanic": {"type": "percent_off", "bp": 10.5}}, r"percent_off\.bp"),
    ({"mechanic": {"type": "percent_off", "bp": True}}, r"percent_off\.bp"),
    ({"mechanic": {"type": "tiered", "tiers": []}}, r"tiered\.tiers"),
    ({"contact_cost": -1}, "contact_cost"),
    ({"currency": "usd"}, "currency"),
    ({"schema_version": 3}, "schema_version"),
    ({"window": {"start_at": "soon"}}, "ISO time"),
    ({"window": {"start_at": "2026-01-05T00:00:00"}}, "time zone"),
    ({"window": {"timezone": "Mars/Base"}}, r"window\.timezone"),
    ({"stacking": {"layer": "moon"}}, r"stacking\.layer"),
    ({"caps": {"budget": 0}}, r"caps\.budget"),
    ({"scope": {"include": {"products": "abc"}}}, r"selection\.products"),
    ({"trigger": {"kind": "shared_code"}}, r"trigger\.code"),
    ({"id": ""}, r"offer"),
]
BAD_JSON = [changes for changes, _ in BAD_JSON_CASES]


@pytest.mark.parametrize(("changes", "match"), BAD_JSON_CASES)
def test_bad_json_names_the_field(changes: dict[str, Any], match: str) -> None:
    plain = {**json.loads(OFFERS[0].to_json()), **changes}
    with pytest.raises(DataError, match=match) as caught:
        Offer.from_json(json.dumps(plain))
    assert "\n" not in str(caught.value)


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(DataError, match="must be JSON"):
        Offer.from_json("{")
    with pytest.raises(DataError, match="key 'id' comes twice"):
        Offer.from_json('{"id":"x","id":"y","currency":"USD","mechanic":{"type":"message"}}')
    with pytest.raises(DataError, match=r"\.id: must be a text"):
        Offer.from_json('{"id":"\\ud800","currency":"USD","mechanic":{"type":"message"}}')


def test_json_without_end_is_refused() -> None:
    with pytest.raises(DataError, match="must be JSON"):
        Offer.from_json("[" * 100_000)


def test_numbers_have_one_form() -> None:
    whole, real = (
        Predicted(uplift=1, lo=-0.0, hi=2, cost=0),
        Predicted(uplift=1.0, lo=0.0, hi=2.0, cost=0.0),
    )
    assert str(whole) == str(real)
    with pytest.raises(DataError, match=r"predicted\.hi: must be a number"):
        Predicted(uplift=1, lo=0, hi=10**400, cost=0)


def test_times_of_other_zones_become_utc() -> None:
    zone = timezone(timedelta(hours=2))
    assert Window(start_at=datetime(2026, 1, 5, 2, tzinfo=zone)) == Window(
        start_at=datetime(2026, 1, 5, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: PercentOff(bp=0), r"percent_off\.bp"),
        (lambda: PercentOff(bp=10_001), r"percent_off\.bp"),
        (lambda: AmountOff(amount=-5), r"amount_off\.amount"),
        (lambda: FixedPrice(price=-1), r"fixed_price\.price"),
        (lambda: Tiered(tiers=(Tier(min=100, amount=101),)), r"tiers\[0\]\.amount"),
        (lambda: Tiered(tiers=(Tier(min=9, bp=1), Tier(min=9, bp=2))), r"tiers\[1\]\.min"),
        (lambda: Tiered(tiers=(Tier(min=9, bp=1),), repeat_every=9), r"repeat_every"),
        (
            lambda: Tiered(tiers=(Tier(min=9, bp=1), Tier(min=10, amount=2)), cumulative=True),
            r"tiered\.tiers",
        ),
        (lambda: Tier(min=9), r"tier\.amount"),
        (lambda: ProductBundle.of_items("a", bp=1), r"product_bundle\.slots"),
        (lambda: ProductBundle.of_items("a", "b"), "one of bp, amount and price"),
        (lambda: Slot(scope=Scope(max_units=1)), r"slot\.scope"),
        (lambda: Gift(sku=""), r"gift\.sku"),
        (lambda: Caps(budget=0), r"caps\.budget"),
        (lambda: Caps(uses=0), r"caps\.uses"),
        (lambda: Caps(min_margin_bp=10_000), r"caps\.min_margin_bp"),
        (lambda: Stacking(in_group="best"), r"stacking\.in_group"),
        (lambda: Window(from_hour=3, to_hour=3), r"window\.to_hour"),
        (
            lambda: Window(end_at=datetime.fromisoformat("9999-12-31T23:59:59-05:00")),
            r"window\.end_at: must lie in the years",
        ),
        (lambda: Audience(countries=("Germany",)), r"audience\.countries\[0\]"),
        (lambda: Audience(salt="x" * 65), r"audience\.salt"),
        (lambda: Predicted(uplift=2.0, lo=0.0, hi=1.0, cost=0.0), r"predicted\.uplift"),
        (lambda: Predicted(uplift=float("nan"), lo=0.0, hi=1.0, cost=0.0), r"predicted\.uplift"),
        (
            lambda: Scope(include=Selection(brands=("a",)), exclude=Selection(brands=("a", "b"))),
            r"scope\.exclude",
        ),
    ],
)
def test_parts_refuse_values_out_of_range(make: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        make()


@pytest.mark.parametrize(
    "audience",
    [
        {"segments_any": ("a", "b"), "segments_none": ("b", "a", "c")},
        {"min_orders": 3, "max_orders": 2},
        {"first_order": True, "min_orders": 1},
    ],
)
def test_an_audience_of_nobody_is_refused(audience: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"audience\.\w+: audience must not be empty"):
        Audience(**audience)


def test_everyone_held_out_is_an_empty_audience_too() -> None:
    with pytest.raises(DataError, match=r"audience\.holdout_bp"):
        Audience(holdout_bp=10_000)


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"mechanic": FreeShipping(), "stacking": Stacking(layer="item")}, r"stacking\.layer"),
        ({"mechanic": FreeShipping(), "scope": Scope(skip_on_sale=True)}, "scope"),
        ({"mechanic": FreeShipping(), "caps": Caps(floor_price=1)}, "caps"),
        ({"mechanic": BuyGet(), "scope": Scope(max_units=1)}, r"scope\.max_units"),
        ({"mechanic": Gift(sku="m"), "scope": Scope.of(brands=("b",))}, "scope"),
        ({"mechanic": Gift(sku="m"), "caps": Caps(per_order_money=1)}, r"caps\.per_order_money"),
        (
            {"mechanic": Gift(sku="m"), "stacking": Stacking(group="g", in_group="best")},
            r"stacking\.in_group",
        ),
    ],
)
def test_parts_that_contradict_each_other_are_refused(parts: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=f"offer 'x': {match}: must"):
        Offer(id="x", currency="USD", **parts)


def percent(offer_id: str, **parts: Any) -> Offer:
    return Offer(id=offer_id, currency="USD", mechanic=PercentOff(bp=1000), **parts)


@pytest.mark.parametrize(
    ("offers", "match"),
    [
        ([percent("a"), percent("a")], "offer 'a': id"),
        ([percent("a"), replace(percent("b"), currency="EUR")], "offer 'b': currency"),
        (
            [
                percent("a", stacking=Stacking(group="g", in_group="best")),
                percent("b", stacking=Stacking(group="g", in_group="first")),
            ],
            r"offer 'b': stacking\.in_group",
        ),
        (
            [
                percent("a", stacking=Stacking(group="g")),
                percent("b", stacking=Stacking(group="g", layer="order")),
            ],
            r"offer 'b': stacking\.layer",
        ),
        (
            [
                percent("a", stacking=Stacking(group="g", exclusive=True)),
                percent("b", stacking=Stacking(group="h", exclusive=True)),
            ],
            r"offer 'b': stacking\.exclusive: exclusive offers must not overlap; 'a'",
        ),
    ],
)
def test_offers_that_contradict_each_other_are_refused(offers: list[Offer], match: str) -> None:
    with pytest.raises(DataError, match=match):
        check_offers(offers)


def test_exclusive_offers_that_never_meet_may_share_a_priority() -> None:
    alone = Stacking(exclusive=True)
    new_year = datetime(2027, 1, 1, tzinfo=UTC)
    check_offers(
        [
            percent("a", stacking=alone, scope=Scope.of(products=("i1",))),
            percent("b", stacking=alone, scope=Scope.of(products=("i2",))),
        ]
    )
    check_offers(
        [
            percent("a", stacking=alone, window=Window(end_at=new_year)),
            percent("b", stacking=alone, window=Window(start_at=new_year)),
        ]
    )
    here, there = Audience(countries=("AT",)), Audience(countries=("CH",))
    check_offers(
        [
            percent("a", stacking=alone, audience=here),
            percent("b", stacking=alone, audience=there),
        ]
    )
    tea, food = Scope.of(categories=("food > tea",)), Scope.of(categories=("food",))
    check_offers(
        [
            percent("a", stacking=alone, scope=tea),
            percent("b", stacking=alone, scope=Scope.of(categories=("care",))),
        ]
    )
    with pytest.raises(DataError, match="must not overlap"):
        check_offers(
            [percent("a", stacking=alone, scope=tea), percent("b", stacking=alone, scope=food)]
        )


def test_every_pair_of_exclusive_offers_is_looked_at() -> None:
    alone = Stacking(exclusive=True)
    scopes = [Scope.of(products=(name,)) for name in ("i1", "i2", "i2")]
    offers = [percent(f"o{i}", stacking=alone, scope=x) for i, x in enumerate(scopes)]
    with pytest.raises(DataError, match=r"offer 'o2': .*'o1'"):
        check_offers(offers)
    # of the order: whatever they cover, the first closes the layer
    closing = Stacking(exclusive=True, layer="order")
    apart = [percent(f"o{i}", stacking=closing, scope=x) for i, x in enumerate(scopes[:2])]
    with pytest.raises(DataError, match="must not overlap"):
        check_offers(apart)


@pytest.mark.parametrize(
    ("one", "two", "may_meet"),
    [
        ({"channels": ("app",)}, {"channels": ("web",)}, False),
        ({"segments_any": ("new",)}, {"segments_none": ("new", "vip")}, False),
        ({"segments_any": ("new", "old")}, {"segments_none": ("new",)}, True),
        ({"segments_any": ("new",)}, {"segments_any": ("old",)}, True),
        ({"channels": ("app",)}, {"countries": ("DE",)}, True),
    ],
)
def test_exclusive_offers_for_different_users(
    one: dict[str, Any], two: dict[str, Any], may_meet: bool
) -> None:
    for fields in ((one, two), (two, one)):
        offers = [
            percent(f"o{i}", stacking=Stacking(exclusive=True), audience=Audience(**own))
            for i, own in enumerate(fields)
        ]
        with pytest.raises(DataError, match="o1") if may_meet else nullcontext():
            check_offers(offers)


@pytest.mark.parametrize(
    ("offer", "text"),
    [
        (OFFERS[0], "12.5% off everything, at most 5.00 USD"),
        (
            OFFERS[1],
            "300 JPY off tea, i1 except best, items on sale excluded, at most 2 units for every "
            "unit",
        ),
        (
            OFFERS[2],
            "Spend 50.00 EUR on everything, save 10.00 EUR; spend 90.00 EUR on everything, save "
            "20%",
        ),
        (OFFERS[3], "10% off i1 + i2 bought together"),
        (OFFERS[4], "A message, no price change"),
        (OFFERS[5], "Everything at 9.99 USD"),
        (OFFERS[6], "Buy 2 x everything, get x for free (cheapest), at most once"),
        (OFFERS[7], "Mug or cup for free"),
        (OFFERS[8], "Free shipping by post, at most 5.00 USD off"),
    ],
)
def test_descriptions_are_plain_words(offer: Offer, text: str) -> None:
    assert offer.describe() == text


@pytest.mark.parametrize(
    ("currency", "text"),
    [("JPY", "12345 JPY"), ("USD", "123.45 USD"), ("KWD", "12.345 KWD"), ("CLF", "1.2345 CLF")],
)
def test_currencies_have_their_own_minor_units(currency: str, text: str) -> None:
    assert (
        Offer(id="x", currency=currency, mechanic=AmountOff(amount=12345))
        .describe()
        .startswith(text)
    )


# The form of version 1.


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            {
                "mechanic": {"type": "percent_off", "bp": 1000, "max_amount": None},
                "scope": {"categories": ["tea"], "item_ids": ["i1"]},
                "window": {"start_at": "2026-01-05T00:00:00.000000Z", "end_at": None},
                "stacking": {"layer": None, "priority": 2, "base": "initial"},
            },
            Offer(
                id="x",
                currency="USD",
                mechanic=PercentOff(bp=1000),
                scope=Scope.of(categories=("tea",), products=("i1",)),
                window=Window(start_at=datetime(2026, 1, 5, tzinfo=UTC)),
                stacking=Stacking(priority=2, base="initial"),
            ),
        ),
        (
            {
                "mechanic": {
                    "type": "spend_threshold",
                    "threshold": 5000,
                    "amount": 500,
                    "spend_basis": "list",
                },
                "scope": {"categories": [], "item_ids": []},
            },
            Offer(
                id="x",
                currency="USD",
                mechanic=Tiered(tiers=(Tier(min=5000, amount=500),)),
                trigger=Trigger(spend_basis="list"),
            ),
        ),
        (
            {
                "mechanic": {
                    "type": "product_bundle",
                    "item_ids": ["a", "b", "a"],
                    "bp": None,
                    "price": 999,
                }
            },
            Offer(
                id="x", currency="USD", mechanic=ProductBundle.of_items("a", "b", "a", price=999)
            ),
        ),
    ],
)
def test_offers_of_version_1_are_read(old: dict[str, Any], new: Offer) -> None:
    plain = {"id": "x", "currency": "USD", "schema_version": 1, **old}
    assert Offer.from_mapping(plain) == new


# The table of offer terms.


@pytest.mark.parametrize(
    ("terms", "mechanic"),
    [
        (row(mechanic="percent_off", depth_rate=0.15), PercentOff(bp=1500)),
        # half up on the decimal form
        (row(mechanic="amount_off", amount=1.005), AmountOff(amount=101)),
        (
            row(mechanic="spend_threshold", amount=5.0, threshold=50.0),
            Tiered(tiers=(Tier(min=5000, amount=500),)),
        ),
        (
            row(mechanic="product_bundle", depth_rate=0.1, item_ids=["i1", "i2"]),
            ProductBundle.of_items("i1", "i2", bp=1000),
        ),
        (row(mechanic="message", amount=float("nan")), Message()),
    ],
)
def test_terms_become_minor_units_and_basis_points(terms: dict[str, Any], mechanic: Any) -> None:
    offer = from_terms(terms)
    assert offer.mechanic == mechanic
    assert from_terms(offer.to_terms()) == offer
    assert offer.to_terms()["mechanic"] == terms["mechanic"]


@given(st.integers(1, 10**9), st.sampled_from(["USD", "JPY", "BHD"]))
def test_amounts_survive_terms_in_every_currency(amount: int, currency: str) -> None:
    offer = Offer(
        id="x",
        currency=currency,
        mechanic=AmountOff(amount=amount),
        contact_cost=amount,
        scope=Scope.of(categories=("a > b",)),
    )
    terms = offer.to_terms()
    assert set(terms) == set(OFFER_TERMS.names)
    assert from_terms(terms, currency) == offer


@pytest.mark.parametrize(
    ("terms", "match"),
    [
        (row(mechanic="raffle"), "offer 'x': mechanic"),
        (row(mechanic="gift"), "offer 'x': mechanic"),
        (row(mechanic="percent_off"), "needs column 'depth_rate'"),
        (row(mechanic="percent_off", depth_rate=1.5), r"percent_off\.bp"),
        (row(mechanic="amount_off", amount=5.0, depth_rate=0.1), "must have null 'depth_rate'"),
        (row(mechanic="message", contact_cost=-1.0), "contact_cost"),
        (row(mechanic="message", contact_cost=None), "needs column 'contact_cost'"),
        ({"mechanic": "message", "contact_cost": 0.0}, "needs column 'offer_id'"),
        (row(mechanic="amount_off", amount=1e16), r"must be at most 1e\+13; got 1e\+16"),
        (row(mechanic="amount_off", amount="much"), "must be a finite number"),
    ],
)
def test_bad_terms_name_the_offer_or_field(terms: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        from_terms(terms)


@pytest.mark.parametrize(
    ("offer", "match"),
    [
        (OFFERS[0], "max_amount"),
        (OFFERS[1], "scope"),
        (OFFERS[2], "trigger"),
        (OFFERS[7], "gift"),
        (
            Offer(
                id="c",
                currency="USD",
                mechanic=Tiered(tiers=(Tier(min=9, amount=1),), cumulative=True),
            ),
            "tiers",
        ),
        (percent("s", scope=Scope.of(products=("i",))), "scope"),
    ],
)
def test_terms_refuse_what_they_cannot_hold(offer: Offer, match: str) -> None:
    with pytest.raises(DataError, match=match):
        offer.to_terms()


def test_serving_can_load_and_price_offers_with_the_standard_library() -> None:
    code = (
        "import sys, datetime, promo_ray.offers as o\n"
        "m = o.Offer.from_json(o.Offer(id='m', currency='USD', mechanic=o.Message()).to_json())\n"
        "now = datetime.datetime.now(datetime.UTC)\n"
        "o.price_cart(o.Cart(currency='USD', lines=()), [m], o.Context(now=now))\n"
        "heavy = {'torch', 'numpy', 'pyarrow', 'pandas', 'ray', 'sklearn', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
