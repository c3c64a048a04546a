"""No field of an offer vanishes on the way to a platform, and what got there comes back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from promo_ray.errors import ConfigError, DataError
from promo_ray.offers import (
    AmountOff,
    Audience,
    BuyGet,
    Caps,
    FixedPrice,
    FreeShipping,
    Gift,
    Mechanic,
    Message,
    Offer,
    PercentOff,
    ProductBundle,
    Scope,
    Selection,
    Slot,
    Stacking,
    Tier,
    Tiered,
    Trigger,
    Window,
    export_offer,
    import_offer,
)
from promo_ray.offers.export import base
from promo_ray.offers.fields import OneOf, fields_of
from promo_ray.offers.money import FULL_BP
from promo_ray.registry import methods

TARGETS = sorted(methods("offers.export"))
SOURCES = ["commercetools", "medusa"]
NAMED = Scope.of(products=("p1", "p2"))
MECHANICS = (
    PercentOff(bp=2000),
    AmountOff(amount=500),
    AmountOff(amount=300, per="unit"),
    FixedPrice(price=999),
    Tiered(tiers=(Tier(min=5000, amount=500),)),
    Tiered(tiers=(Tier(min=3, bp=1000),), basis="quantity"),
    Tiered(tiers=(Tier(min=3000, bp=500), Tier(min=6000, bp=1000)), cumulative=True),
    ProductBundle.of_items("p1", "p2", price=1500),
    ProductBundle.of_items("p1", "p1", bp=1500),
    BuyGet(buy=Slot(scope=NAMED, quantity=2), get=Slot(scope=NAMED)),
    BuyGet(buy=Slot(scope=NAMED), bp=5000, pick="dearest", max_times=1),
    BuyGet(buy=Slot(scope=NAMED), get=Slot(scope=NAMED), pick="dearest", max_times=1),
    Gift(sku="mug"),
    FreeShipping(),
    FreeShipping(max_amount=700, methods=("post",)),
    Message(),
)
NAMES = st.sampled_from(["p1", "p2", "Food > Tea", 'say "hi" (now)', "a, b", "$1", "茶", "7"])
SPECIAL = {
    "countries": st.lists(st.sampled_from(["DE", "FR", "US"]), unique=True),
    "timezone": st.sampled_from(["UTC", "Europe/Berlin"]),
    "currency": st.sampled_from(["EUR", "USD", "JPY", "KWD"]),
    "code": st.sampled_from(["SAVE", "save 5"]),
    "id": st.sampled_from(["o1", "o2", "an offer", "x"]),
    "start_at": st.sampled_from([None, "2026-01-05T00:00:00Z", "2026-01-05T07:00:00Z"]),
    "end_at": st.sampled_from([None, "2026-02-02T00:00:00Z", "2026-02-02T09:30:00Z"]),
    "bp": st.sampled_from([None, 1, 1250, 2000, FULL_BP]),
}


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All paths of a JSON value, also those that hold nothing."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(node, list) and any(isinstance(v, dict) for v in node):
        for i, value in enumerate(node):
            yield from leaves(value, f"{path}[{i}]")
    else:
        yield path, node


def whole(offer: Offer) -> dict[str, Any]:
    plain: dict[str, Any] = base._whole(offer)
    plain["stacking"]["layer"] = offer.layer  # None says the same as the layer it stands for
    plain["stacking"]["combines_with"].sort()  # a set
    if offer.trigger.required_scope == Scope():  # every cart holds something
        plain["trigger"]["required_scope"] = None
    return plain


def put(offer: Offer, path: str, value: Any) -> Offer | None:
    """The offer with one value changed; None if that is no offer."""
    plain = base._whole(offer)
    node: Any = plain
    *steps, last = re.findall(r"[^.\[\]]+", path)
    for step in steps:
        if isinstance(node, list):
            node = node[int(step)]
        else:
            node[step] = node.get(step) or {}
            node = node[step]
    node[last] = value
    try:
        return Offer.from_mapping(plain)
    except DataError:
        return None


def values_of(offer: Offer, path: str) -> st.SearchStrategy[Any]:
    """Values of the kind that a field holds."""
    steps = re.findall(r"[^.\[\]]+", path)
    if steps[-1] in SPECIAL:
        return SPECIAL[steps[-1]]
    record: Any = offer
    for step in steps[:-1]:
        record = record[int(step)] if step.isdecimal() else getattr(record, step)
    field = fields_of(type(record))[steps[-1]]
    if field.inner is not None:
        rule = field.inner.rule
        names = st.sampled_from(rule) if isinstance(rule, OneOf) else NAMES
        return st.lists(names, unique=True, max_size=3)
    kinds: Mapping[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(0, 9) | st.integers(10, 20_000),
        float: st.sampled_from([0.5, 1.5]),
        str: st.sampled_from(field.rule) if isinstance(field.rule, OneOf) else NAMES,
    }
    found = kinds[field.kind]
    return st.none() | found if field.is_optional else found


SCOPE_LEAVES = [
    f"{scope}.{side}.{kind}"
    for scope in ("scope", "trigger.required_scope")
    for side in ("include", "exclude")
    for kind in ("products", "categories", "brands", "tags")
]
FREE = ("schema_version", "mechanic.type", "trigger.code", "trigger.kind")


@st.composite
def mutants(draw: Any, offer: Offer) -> tuple[str, Offer]:
    """A path of the offer and the offer with another value there."""
    known = [p for p, _ in leaves(base._whole(offer)) if p not in FREE]
    paths = [p for p in known if p not in ("provenance.predicted", "trigger.required_scope")]
    path = draw(st.sampled_from(sorted(set(paths) | set(SCOPE_LEAVES))))
    in_scope = path.startswith("trigger.required_scope.")
    values = st.lists(NAMES, unique=True, max_size=3) if in_scope else values_of(offer, path)
    mutant = put(offer, path, draw(values))
    assume(mutant is not None)
    return path, mutant


@st.composite
def offers(draw: Any, most: int = 8) -> Offer:
    kind = draw(st.sampled_from(["automatic", "shared_code", "unique_code", "member"]))
    trigger = Trigger(kind=kind, code="SAVE" if kind == "shared_code" else None)
    offer = Offer(
        id="o1", currency="EUR", mechanic=draw(st.sampled_from(MECHANICS)), trigger=trigger
    )
    for _ in range(draw(st.integers(0, most))):
        _, offer = draw(mutants(offer))
    return offer


def is_lost(path: str, losses: tuple[base.Loss, ...]) -> bool:
    names = [loss.path for loss in losses]
    return any(base._is_below(path, name) or base._is_below(name, path) for name in names)


def test_every_platform_of_the_list_is_there() -> None:
    wanted = "commercetools magento medusa saleor shopify vendure voucherify"
    assert wanted.split() == TARGETS


def test_several_offers_are_exported_one_by_one() -> None:
    several = EXPRESSIBLE["medusa"]
    assert export_offer(several, "medusa") == tuple(export_offer(o, "medusa") for o in several)


def check_shapes(target: str, data: st.DataObject) -> None:
    offer = data.draw(offers())
    path, mutant = data.draw(mutants(offer))
    assume(whole(offer) != whole(mutant))
    one, two = export_offer(offer, target), export_offer(mutant, target)
    if not is_lost(path, one.losses) and not is_lost(path, two.losses):
        assert one.payload != two.payload, path


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_a_field_that_is_not_lost_shapes_the_payload(target: str, data: st.DataObject) -> None:
    check_shapes(target, data)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@given(data=st.data())
@settings(max_examples=500, deadline=None)
def test_no_field_vanishes_from_many_offers(target: str, data: st.DataObject) -> None:
    check_shapes(target, data)


@pytest.mark.parametrize("target", TARGETS)
@given(offer=offers())
@settings(max_examples=10, deadline=None)
def test_losses_name_fields_and_payloads_are_json(target: str, offer: Offer) -> None:
    exported = export_offer(offer, target)
    assert json.loads(json.dumps(exported.payload)) == exported.payload
    paths = dict(leaves(base._whole(offer)))
    for loss in exported.losses:
        assert any(base._is_below(path, loss.path) for path in paths), loss
        assert loss.reason
    assert len({loss.path for loss in exported.losses}) == len(exported.losses)
    if not exported.payload:
        said = dict(base.leaves(base.to_plain(offer)))
        assert set(said) <= {loss.path for loss in exported.losses}


def check_round_trip(source: str, offer: Offer) -> None:
    exported = export_offer(offer, source)
    assume(exported.payload)
    imported = import_offer(json.loads(json.dumps(exported.payload)), source)
    if not exported.losses:
        assert whole(imported.offer) == whole(offer)
    again = dict(leaves(whole(imported.offer)))
    is_changed = is_lost("mechanic.type", exported.losses)
    assert is_changed or imported.losses == ()
    for path, value in leaves(whole(offer)):
        if is_changed and path.startswith(("mechanic", "trigger.", "stacking.layer")):
            continue  # another mechanic with the same effect
        if not is_lost(path, exported.losses):
            nothing = value if value in (None, [], False) else None  # in a part that is not there
            assert again.get(path, nothing) == value, path


@pytest.mark.parametrize("source", SOURCES)
@given(offer=offers(most=5))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_what_is_not_lost_comes_back(source: str, offer: Offer) -> None:
    check_round_trip(source, offer)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@given(offer=offers(most=5))
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
def test_what_is_not_lost_of_many_offers_comes_back(source: str, offer: Offer) -> None:
    check_round_trip(source, offer)


@pytest.mark.parametrize("mechanic", MECHANICS)
@pytest.mark.parametrize("target", TARGETS)
def test_layers_that_are_not_lost_differ_in_the_payload(target: str, mechanic: Mechanic) -> None:
    out = Selection(products=("p1",))
    for scope in (Scope(), NAMED, Scope(exclude=out), Scope(exclude=Selection(brands=("p1",)))):
        said: dict[str, str] = {}
        for layer in (None, *mechanic.layers):
            stacking = Stacking(layer=layer)
            try:
                offer = Offer(
                    id="o1", currency="EUR", mechanic=mechanic, scope=scope, stacking=stacking
                )
            except DataError:
                continue  # the mechanic has slots of its own in place of a scope
            exported = export_offer(offer, target)
            if exported.payload and not is_lost("stacking.layer", exported.losses):
                assert said.setdefault(json.dumps(exported.payload), offer.layer) == offer.layer


@pytest.mark.parametrize("target", TARGETS)
def test_a_scope_of_which_only_excluded_products_can_be_said_is_not_exported(target: str) -> None:
    include = Selection(products=("p1", "p2"), brands=("b1",))
    scope = Scope(include=include, exclude=Selection(products=("p2", "p1")))
    exported = export_offer(
        Offer(id="o1", currency="EUR", mechanic=MECHANICS[0], scope=scope), target
    )
    assert exported.payload == {}
    reasons = {loss.path: loss.reason for loss in exported.losses}
    assert reasons["scope.include"] == "selects by products here, all of which is excluded"


EXPRESSIBLE = {
    "commercetools": (
        Offer(id="o-1", currency="EUR", mechanic=PercentOff(bp=1250), scope=NAMED, label="Tea"),
        Offer(id="o-2", currency="JPY", mechanic=AmountOff(amount=300, per="unit"), scope=NAMED),
        Offer(id="o-3", currency="EUR", mechanic=MECHANICS[7]),
        Offer(id="o-4", currency="EUR", mechanic=MECHANICS[9]),
        Offer(id="o-5", currency="EUR", mechanic=Gift(sku="mug"), trigger=Trigger(min_spend=5000)),
        Offer(id="o-6", currency="EUR", mechanic=FreeShipping(methods=("post",))),
        Offer(id="o-7", currency="KWD", mechanic=FixedPrice(price=999)),
        Offer(id="o-8", currency="EUR", mechanic=AmountOff(amount=500)),
        Offer(
            id="o-9",
            currency="EUR",
            mechanic=PercentOff(bp=500),
            trigger=Trigger(min_units=3, required_scope=NAMED),
            stacking=Stacking(layer="order", stop=True, priority=-4),
        ),
        Offer(id="o-10", currency="EUR", mechanic=PercentOff(bp=5), scope=Scope(max_units=2)),
        Offer(id="o-11", currency="EUR", mechanic=MECHANICS[8]),
        Offer(id="o-12", currency="EUR", mechanic=ProductBundle.of_items("p1", "p2", amount=150)),
        Offer(id="o-13", currency="EUR", mechanic=MECHANICS[10]),
        Offer(id="o-14", currency="EUR", mechanic=FreeShipping()),
        Offer(
            id="o-15",
            currency="EUR",
            mechanic=AmountOff(amount=100),
            trigger=Trigger(kind="shared_code", code="TEN"),
            caps=Caps(uses=100, uses_per_user=1),
            audience=Audience(segments_any=("vip",), segments_none=("staff",), countries=("DE",)),
            window=Window(start_at=datetime(2026, 1, 5, tzinfo=UTC)),
        ),
        Offer(
            id="o-16",
            currency="EUR",
            mechanic=PercentOff(bp=100),
            trigger=Trigger(kind="unique_code"),
        ),
        Offer(
            id="Tea, 10 %",  # no key of commercetools
            currency="EUR",
            mechanic=PercentOff(bp=1000),
            stacking=Stacking(group="spring sale", in_group="best"),
        ),
    ),
    "medusa": (
        Offer(id="o 1", currency="EUR", mechanic=PercentOff(bp=1250), scope=NAMED, label="Tea"),
        Offer(id="o 2", currency="JPY", mechanic=AmountOff(amount=300, per="unit"), scope=NAMED),
        Offer(id="o 3", currency="KWD", mechanic=AmountOff(amount=1234), caps=Caps(budget=10**15)),
        Offer(id="o 4", currency="EUR", mechanic=MECHANICS[11]),
        Offer(id="o 5", currency="EUR", mechanic=FreeShipping(), trigger=Trigger(min_spend=5000)),
        Offer(
            id="o 6",
            currency="EUR",
            mechanic=PercentOff(bp=500),
            stacking=Stacking(layer="order"),
            audience=Audience(segments_any=("g1",), channels=("s1",), countries=("DE",)),
        ),
        Offer(
            id="o 7",
            currency="EUR",
            mechanic=PercentOff(bp=500),
            scope=replace(NAMED, max_units=2),
            caps=Caps(uses=9),
            window=Window(end_at=datetime(2026, 1, 5, tzinfo=UTC)),
        ),
    ),
}


@pytest.mark.parametrize(
    ("source", "offer"), [(name, offer) for name in SOURCES for offer in EXPRESSIBLE[name]]
)
def test_expressible_offers_lose_nothing_and_come_back(source: str, offer: Offer) -> None:
    exported = export_offer(offer, source)
    assert exported.losses == ()
    assert import_offer(exported.payload, source) == base.Imported(offer=offer, losses=())


def test_every_mechanic_that_importers_can_express_comes_back() -> None:
    kinds = {name: {o.mechanic.method for o in EXPRESSIBLE[name]} for name in SOURCES}
    every = {"percent_off", "amount_off", "buy_get", "free_shipping"}
    assert kinds["commercetools"] == every | {"fixed_price", "product_bundle", "gift"}
    assert kinds["medusa"] == every
    for name in SOURCES:  # the others are never said without a loss
        for mechanic in MECHANICS:
            if mechanic.method not in kinds[name]:
                assert export_offer(Offer(id="o", currency="EUR", mechanic=mechanic), name).losses


@pytest.mark.parametrize("source", SOURCES)
def test_importing_names_what_no_offer_can_say(source: str) -> None:
    payload = json.loads(json.dumps(export_offer(EXPRESSIBLE[source][0], source).payload))
    (head,) = payload
    payload[head]["custom"] = {"fields": {"color": "red"}}
    imported = import_offer(payload, source)
    assert imported.losses == (
        base.Loss(path=f"{head}.custom.fields.color", reason="is no field of an offer"),
    )


def test_a_predicate_beyond_offers_is_a_loss_with_its_text() -> None:
    payload = export_offer(EXPRESSIBLE["commercetools"][0], "commercetools").payload
    payload["cart-discounts"]["cartPredicate"] += ' and customer.email = "a and b"'
    imported = import_offer(payload, "commercetools")
    assert [loss.path for loss in imported.losses] == ["cart-discounts.cartPredicate"]
    assert 'customer.email = "a and b"' in imported.losses[0].reason


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda o: export_offer(o, "sap"), r"platform must be one of commercetools, .*; got 'sap'"),
        (lambda o: import_offer({}, "shopify"), "platform must be one of commercetools, medusa"),
    ],
)
def test_unknown_platforms_are_refused(call: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        call(EXPRESSIBLE["medusa"][0])


@pytest.mark.parametrize("source", SOURCES)
def test_importing_another_thing_is_refused(source: str) -> None:
    with pytest.raises(DataError, match="payload: must hold an object"):
        import_offer({"hello": 1}, source)


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Keys that lead to every value of a JSON value."""
    inner = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in inner:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


JUNK = (None, 5, -1, 1.5, True, "x", "", [], {}, [1], ["x"], [{}], {"a": 1}, float("inf"))


@pytest.mark.parametrize("source", SOURCES)
def test_junk_anywhere_in_a_payload_is_refused_or_read(source: str) -> None:
    refused = 0
    for offer in EXPRESSIBLE[source]:
        payload = json.dumps(export_offer(offer, source).payload)
        for i, place in enumerate(places(json.loads(payload))):
            for junk in (JUNK[i % len(JUNK)], JUNK[(i * 5 + 3) % len(JUNK)]):
                broken = json.loads(payload)
                node = broken
                for key in place[:-1]:
                    node = node[key]
                node[place[-1]] = junk
                try:
                    import_offer(broken, source)
                except DataError:
                    refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("source", "place", "junk", "match"),
    [
        ("commercetools", ("cart-discounts", "sortOrder"), 5, "sortOrder: must be a text; got 5"),
        ("commercetools", ("cart-discounts", "value", "permyriad"), True, "must be an integer"),
        ("medusa", ("promotions", "campaign"), "x", r"promotions\.campaign: must be an object"),
        (
            "medusa",
            ("promotions", "application_method", "target_rules", 0),
            {"attribute": "a", "operator": "in"},
            r"target_rules\[0\]\.values: must be present",
        ),
    ],
)
def test_a_value_of_another_kind_is_named(
    source: str, place: tuple[Any, ...], junk: Any, match: str
) -> None:
    payload = json.loads(json.dumps(export_offer(EXPRESSIBLE[source][0], source).payload))
    node = payload
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = junk
    with pytest.raises(DataError, match=match):
        import_offer(payload, source)
