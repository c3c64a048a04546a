"""Many carts at once are judged by the pricer of one cart: every field must be equal."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from promo_ray.bench.offers_cases import NOW, Draw, draw_cart, draw_context, draw_offer
from promo_ray.errors import DataError
from promo_ray.offers import (
    AmountOff,
    Audience,
    BuyGet,
    Caps,
    CapsLeft,
    Cart,
    CartBatch,
    CartItem,
    CartLine,
    Context,
    FixedPrice,
    Gift,
    Offer,
    PercentOff,
    PricedBatch,
    ProductBundle,
    Reason,
    Scope,
    Shipping,
    Slot,
    Stacking,
    Tier,
    Tiered,
    Trigger,
    Window,
    native,
    one_cart,
    price_cart,
    price_carts,
)
from promo_ray.offers import batch as batching
from promo_ray.offers.pricing import price_by_rules

ANYONE = Context(now=NOW, user_id="ann")
MEMBERS = Trigger(kind="member")


def offer(offer_id: str, mechanic: Any, **parts: Any) -> Offer:
    return Offer(id=offer_id, currency="USD", mechanic=mechanic, **parts)


def cart(*lines: tuple[str, int, int], shipping: int | None = None) -> Cart:
    return Cart(
        currency="USD",
        lines=tuple(CartLine(item_id=i, list_price=p, quantity=q) for i, p, q in lines),
        shipping=None if shipping is None else Shipping(price=shipping),
    )


def assert_equal_to_single_carts(
    carts: Sequence[Cart], offers: Sequence[Offer], contexts: Sequence[Context]
) -> PricedBatch:
    done = price_carts(CartBatch.of(carts), offers, contexts, by_line=True)
    for i, (one, context) in enumerate(zip(carts, contexts, strict=True)):
        by_rules = price_by_rules(one, offers, context)
        assert done.cart(i) == by_rules
        assert price_cart(one, offers, context) == by_rules
    return done


@pytest.fixture(autouse=True)
def _compile_even_few_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_cart, "_FEW_OFFERS", 0)
    monkeypatch.setattr(batching, "_N_TO_PAY", 0)


def random_rounds(seed: int, n_rounds: int, n_carts: int, n_pool: int) -> None:
    draw = Draw(np.random.default_rng(seed))
    pool = [draw_offer(draw, f"o{i:03d}") for i in range(n_pool)]
    applied: Counter[str] = Counter()
    reasons: Counter[Reason] = Counter()
    for _ in range(n_rounds):
        offers = draw.shuffled(pool)[: draw.int(0, 12 if draw.is_so(0.9) else 100)]
        carts = [draw_cart(draw) for _ in range(n_carts)]
        contexts = [draw_context(draw, offers) for _ in range(n_carts)]
        done = assert_equal_to_single_carts(carts, offers, contexts)
        for j, one in enumerate(offers):
            applied[one.mechanic.method] += int(done.is_applied[:, j].sum())
            reasons.update(done.reasons(j))
    assert min(applied[m] for m in ("tiered", "product_bundle", "buy_get", "gift")) > 5
    assert set(reasons) >= {Reason.GROUP_BEATEN, Reason.NOT_COMBINABLE, Reason.NOTHING_LEFT}


def test_random_carts_are_priced_as_one_by_one() -> None:
    random_rounds(seed=7, n_rounds=50, n_carts=40, n_pool=200)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_many_random_carts_are_priced_as_one_by_one(seed: int) -> None:
    random_rounds(seed=100 + seed, n_rounds=250, n_carts=40, n_pool=400)


def scaled_cart(draw: Draw, low: int, high: int) -> Cart:
    """Cart with prices and quantities of any size."""
    lines = tuple(
        CartLine(
            item_id=draw.one("abcdef"),
            list_price=int(10 ** (draw.int(low * 10, high * 10) / 10)),
            quantity=draw.one((1, 2, 3, 17, 1000)),
            category=draw.one(("food", "food > tea")),
            unit_cost=draw.one((None, 1, 10**low)),
        )
        for _ in range(draw.int(1, 30))
    )
    return Cart(currency="USD", lines=lines, shipping=Shipping(price=draw.one((0, 700, 10**high))))


@pytest.mark.parametrize(("low", "high"), [(0, 3), (4, 6), (6, 8), (9, 10), (10, 14)])
def test_money_of_any_size_is_exact(low: int, high: int) -> None:
    draw = Draw(np.random.default_rng(low))
    for _ in range(6):
        offers = [draw_offer(draw, f"o{i:03d}") for i in range(10)]
        offers.append(offer("large", AmountOff(amount=10**low * 7 + 3)))
        capped = Caps(per_order_money=10**high // 3 + 1, min_margin_bp=9_999)
        offers.append(offer("capped", PercentOff(bp=9_999), caps=capped))
        carts = [scaled_cart(draw, low, high) for _ in range(10)]
        assert_equal_to_single_carts(carts, offers, [ANYONE] * 10)


def test_products_beyond_128_bits_are_exact() -> None:
    minus = offer("o", AmountOff(amount=9 * 10**14), caps=Caps(per_order_money=5 * 10**14 + 7))
    lines = (("a", 7 * 10**14 + 1, 1), ("b", 3 * 10**14, 2), ("c", 11, 3))
    assert_equal_to_single_carts([cart(*lines)], [minus], [ANYONE])


def test_free_units_and_empty_carts() -> None:
    offers = [
        offer("a", BuyGet()),
        offer("b", BuyGet(bp=5000)),
        offer("m", PercentOff(bp=1000), trigger=Trigger(min_spend=100)),
    ]
    carts = [cart(("sample", 0, 1), ("shoe", 6000, 1)), cart(("mug", 1000, 2)), cart()]
    done = assert_equal_to_single_carts(carts, offers, [ANYONE] * 3)
    assert done.saving[:, :2].tolist() == [[0, 0], [1000, 0], [0, 0]]
    assert done.cart(2).rejected[-1] == ("m", Reason.BELOW_MIN_SPEND)


def test_ties_in_a_group_go_to_the_lower_id_whatever_the_priority() -> None:
    offers = [
        offer(
            name,
            PercentOff(bp=1000),
            stacking=Stacking(priority=priority, group="g", in_group="best"),
        )
        for name, priority in (("a", 2), ("b", 1), ("c", 0))
    ]
    done = assert_equal_to_single_carts([cart(("x", 500, 1))], offers, [ANYONE])
    assert done.is_applied.tolist() == [[True, False, False]]


def test_without_a_context_carts_say_all_that_is_known() -> None:
    offers = [offer("ten", PercentOff(bp=1000)), offer("m", PercentOff(bp=1), trigger=MEMBERS)]
    done = price_carts([cart(("a", 500, 1))], offers)
    assert done.totals[0, 4] == 450
    assert done.reasons(1) == {Reason.NOT_MEMBER: 1}
    over = offer("over", PercentOff(bp=1000), window=Window(end_at=NOW))
    with pytest.raises(DataError, match="windows"):
        price_carts([cart(("a", 500, 1))], [over])
    later = CartBatch.of([cart(("a", 500, 1))], at=[np.datetime64("2026-02-01")])
    assert price_carts(later, [over]).reasons(0) == {Reason.ENDED: 1}


def test_long_carts_with_bundles_whose_slots_overlap() -> None:
    draw = Draw(np.random.default_rng(5))
    tea, food = Scope.of(categories=("food > tea",)), Scope.of(categories=("food",))
    slots = (Slot(scope=tea, quantity=2), Slot(scope=food), Slot(quantity=3))
    offers = [
        offer("o1", PercentOff(bp=1234), scope=Scope(max_units=7)),
        offer("o2", ProductBundle(slots=slots, price=900)),
        offer("o3", ProductBundle(slots=slots[::-1], amount=333, max_times=4)),
        offer("o4", BuyGet(buy=Slot(quantity=3), get=Slot(scope=tea, quantity=2), bp=3333)),
    ]
    carts = [scaled_cart(draw, 1, 3) for _ in range(60)]
    carts += [Cart(currency="USD", lines=carts[i].lines * 9) for i in range(8)]
    done = assert_equal_to_single_carts(carts, offers, [ANYONE] * len(carts))
    assert done.is_applied.any(axis=0).all()


def test_more_scopes_than_bits_of_a_word() -> None:
    items = [f"p{i:03d}" for i in range(150)]
    offers = [offer(i, PercentOff(bp=500), scope=Scope.of(products=(i,))) for i in items]
    carts = [cart(*((items[(k * 37 + j) % 150], 101 + j, 2) for j in range(9))) for k in range(30)]
    done = assert_equal_to_single_carts(carts, offers, [ANYONE] * 30)
    assert (done.is_applied.sum(axis=1) == 9).all()


def test_no_carts_no_lines_and_no_offers() -> None:
    assert len(price_carts(CartBatch.of([]), [offer("o", PercentOff(bp=1))], ANYONE).totals) == 0
    assert_equal_to_single_carts([cart(), cart(shipping=5)], [], [ANYONE] * 2)
    assert_equal_to_single_carts([cart()], [offer("o", PercentOff(bp=1))], [ANYONE])


def drawn(seed: int, n: int) -> tuple[CartBatch, list[Offer]]:
    draw = Draw(np.random.default_rng(seed))
    carts = [draw_cart(draw) for _ in range(n)]
    offers = [draw_offer(draw, f"o{i:03d}") for i in range(12)]
    at = np.datetime64("2026-01-01", "us") + np.sort(draw._rng.integers(0, 20 * 86_400, n)).astype(
        "timedelta64[s]"
    )
    users = [f"u{draw.int(0, 40)}" if draw.is_so(0.9) else "" for _ in range(n)]
    return CartBatch.of(carts, at=at, user_ids=users), offers


def columns(done: PricedBatch) -> list[bytes]:
    found = (done.pay, done.totals, done.saving, done.outcome, done.by_line, done.units)
    return [b"" if column is None else column.tobytes() for column in found]


def test_threads_change_no_byte() -> None:
    batch, offers = drawn(3, 301)
    one, *others = (
        columns(price_carts(batch, offers, ANYONE, by_line=True, by_unit=True, n_threads=n))
        for n in (1, 2, 3, 7)
    )
    assert all(other == one for other in others)


@pytest.mark.parametrize("draw_caps", [False, True])
def test_without_the_kernel_the_same(monkeypatch: pytest.MonkeyPatch, draw_caps: bool) -> None:
    found = []
    for kernel in (native.kernel, None):
        monkeypatch.setattr(native, "kernel", kernel)
        for seed in (4, 5, 6):
            batch, offers = drawn(seed, 250)
            done = price_carts(
                batch, offers, ANYONE, draw_caps=draw_caps, by_line=True, by_unit=True
            )
            found.append(columns(done))
    assert found[:3] == found[3:]


def test_one_cart_is_compiled_only_for_many_offers_and_where_the_kernel_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [offer(f"o{i:02d}", PercentOff(bp=10 + i)) for i in range(40)]
    one = cart(("a", 5000, 2), ("b", 300, 1), shipping=10)
    by_rules = price_by_rules(one, many, ANYONE)
    ways = Counter[str]()
    for name in ("price_carts", "is_worth_compiling"):
        own = getattr(batching, name)
        monkeypatch.setattr(
            batching, name, lambda *a, own=own, name=name, **k: ways.update([name]) or own(*a, **k)
        )
    monkeypatch.setattr(one_cart, "_FEW_OFFERS", 30)
    assert price_cart(one, many[:30], ANYONE) == price_by_rules(one, many[:30], ANYONE)
    assert not ways
    assert price_cart(one, many, ANYONE) == by_rules
    assert ways["price_carts"] == (native.kernel is not None)
    monkeypatch.setattr(native, "kernel", None)
    assert price_cart(one, many, ANYONE) == by_rules
    monkeypatch.setattr(one_cart, "_batch", lambda: None)
    assert price_cart(one, many, ANYONE) == by_rules
    assert ways["price_carts"] == ways["is_worth_compiling"] - 1


def test_offers_are_not_compiled_before_they_came_some_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batching, "_N_TO_PAY", 2)
    has_kernel = native.kernel is not None
    for _ in range(2):
        many = [offer(f"o{i:02d}", PercentOff(bp=10 + i)) for i in range(20)]
        misses = batching._encoded.cache_info().misses
        for is_new in (False, False, has_kernel, False):
            price_cart(cart(("a", 5000, 2)), many, ANYONE)
            misses += is_new
            assert batching._encoded.cache_info().misses == misses


@pytest.mark.parametrize("n_offers", [1, 20])
def test_carts_that_no_column_can_hold_and_no_context_are_refused(n_offers: int) -> None:
    many = [offer(f"o{i:02d}", PercentOff(bp=10 + i)) for i in range(n_offers)]
    with pytest.raises(DataError, match=r"cart: must sum to at most 10+ minor units; got 30+"):
        cart(("a", 10**15, 10**9), ("b", 10**15, 10**9), ("c", 10**15, 10**9))
    most = cart(("a", 10**15, 10**3))
    assert price_cart(most, many, ANYONE) == price_by_rules(most, many, ANYONE)
    with pytest.raises(DataError, match="context: must be a Context; got None"):
        price_cart(most, many, None)  # type: ignore[arg-type]


def test_offers_are_encoded_once_and_never_taken_for_others() -> None:
    one = cart(("a", 5000, 2))
    for bp in (1000, 2000, 1000):  # new offers may lie where those before them lay
        for currency in ("USD", "EUR", "USD"):
            offers = [offer(f"o{i:02d}", PercentOff(bp=bp + i)) for i in range(20)]
            own = replace(one, currency=currency)
            if currency == "EUR":
                with pytest.raises(DataError, match="currency"):
                    price_cart(own, offers, ANYONE)
            else:
                assert price_cart(own, offers, ANYONE) == price_by_rules(own, offers, ANYONE)
    before = batching._encoded.cache_info().hits
    assert price_cart(one, tuple(offers), ANYONE) == price_cart(one, offers, ANYONE)
    assert batching._encoded.cache_info().hits >= before + (native.kernel is not None)
    with pytest.raises(DataError, match="unique"):
        price_cart(one, [*offers, offers[0]], ANYONE)


def test_a_gift_that_an_offer_does_not_have_is_refused_by_every_way() -> None:
    given = [
        offer("g", Gift(sku="mug", choice_of=("cap",)), trigger=MEMBERS),
        offer("p", PercentOff(bp=1)),
    ]
    told = replace(ANYONE, gift_choice={"g": "car"})
    for pricer in (price_cart, price_by_rules):
        with pytest.raises(DataError, match="gift_choice"):
            pricer(cart(("a", 1, 1)), given, told)


def test_offers_that_the_kernel_does_not_know_are_priced_all_the_same() -> None:
    slots = tuple(Slot(scope=Scope.of(products=(f"p{i}",))) for i in range(65))
    wide = offer("wide", ProductBundle(slots=slots, bp=5000))
    carts = [cart(*((f"p{i}", 100, 1) for i in range(n))) for n in (64, 65)]
    done = assert_equal_to_single_carts(carts, [wide], [ANYONE] * 2)
    assert done.totals[:, 4].tolist() == [6400, 3250]


def test_times_and_users_of_the_batch_take_the_place_of_the_context() -> None:
    batch, _ = drawn(8, 200)
    edge = datetime(2026, 1, 9, 3, 30, tzinfo=UTC)
    windows = [
        Window(start_at=edge, end_at=edge + timedelta(days=3)),
        Window(weekdays=("sat", "mon"), timezone="Asia/Kathmandu"),
        Window(from_hour=22, to_hour=3, timezone="America/St_Johns", end_at=edge),
    ]
    offers = [offer(f"w{i}", PercentOff(bp=300 + i), window=w) for i, w in enumerate(windows)]
    offers.append(offer("h", PercentOff(bp=700), audience=Audience(holdout_bp=4000)))
    offers.append(offer("c", PercentOff(bp=800), caps=Caps(per_user_money=50)))
    at = batch.at
    assert at is not None
    assert batch.user is not None
    at[:4] = np.datetime64(edge.replace(tzinfo=None), "us") + np.array([-1, 0, 1, 2], "m8[us]")
    done = price_carts(batch, offers, ANYONE, by_line=True)
    for i in range(len(batch)):
        now = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(at[i].astype(np.int64)))
        context = replace(ANYONE, now=now, user_id=batch.users[batch.user[i]])
        assert done.cart(i) == price_cart(batch.cart(i), offers, context)
        own = price_carts(batch.take(np.array([i])), offers, [context], by_line=True)
        assert own.cart(0) == done.cart(i)


def test_caps_are_drawn_down_from_cart_to_cart() -> None:
    batch, _ = drawn(11, 600)
    assert batch.at is not None
    assert batch.user is not None
    caps = [
        Caps(budget=3_000),
        Caps(budget=500, period="day"),
        Caps(uses=9, period="week"),
        Caps(uses_per_user=2),
        Caps(per_user_money=120, budget=4_000, period="week"),
        Caps(budget=1_000, uses=5, period="day"),
    ]
    kinds = [PercentOff(bp=900), AmountOff(amount=75), Gift(sku="mug", unit_cost=130)]
    offers = [offer(f"o{i}", kinds[i % 3], caps=own) for i, own in enumerate(caps)]
    done = price_carts(batch, offers, ANYONE, draw_caps=True, by_line=True)
    spent: Counter[tuple[Any, ...]] = Counter()
    for i in range(len(batch)):
        now = datetime.fromisoformat(str(batch.at[i])).replace(tzinfo=UTC)
        user = batch.users[batch.user[i]]
        number = {"total": 0, "day": now.toordinal(), "week": now.isocalendar()[:2]}
        keys = {o.id: (o.id, number[o.caps.period]) for o in offers}
        left = {}
        for o in offers:
            drawn_so_far = (
                spent[keys[o.id]], spent[*keys[o.id], "n"],
                spent[*keys[o.id], user, "n"], spent[*keys[o.id], user],
            )  # fmt: skip
            own = (o.caps.budget, o.caps.uses, o.caps.uses_per_user, o.caps.per_user_money)
            rest = [None if c is None else c - d for c, d in zip(own, drawn_so_far, strict=True)]
            left[o.id] = CapsLeft(
                budget=rest[0], uses=rest[1], user_uses=rest[2], user_money=rest[3]
            )
        context = Context(now=now, user_id=user, left=left)
        priced = price_cart(batch.cart(i), offers, context)
        assert done.cart(i) == priced
        for a in priced.applied:
            key, money = keys[a.offer_id], a.saving + a.gift_cost
            spent.update({key: money, (*key, "n"): 1, (*key, user): money, (*key, user, "n"): 1})
    assert done.cost[:, 0].sum() == 3_000
    assert {Reason.BUDGET_SPENT, Reason.USES_SPENT, Reason.USER_USES_SPENT} <= {
        reason for j in range(6) for reason in done.reasons(j)
    }


def test_units_made_cheaper_leave_out_those_on_sale() -> None:
    lines = (
        CartLine(item_id="a", list_price=500, quantity=5),
        CartLine(item_id="b", list_price=500, quantity=2, is_on_sale=True),
    )
    offers = [
        offer("o1", PercentOff(bp=1000), stacking=Stacking(layer="order")),
        offer("o2", FixedPrice(price=400), scope=Scope(max_units=3, skip_on_sale=True)),
        offer("o3", BuyGet(buy=Slot(quantity=2)), trigger=Trigger(min_spend=1)),
    ]
    batch = CartBatch.of([Cart(currency="USD", lines=lines)])
    done = price_carts(batch, offers, ANYONE, by_unit=True)
    assert done.units is not None
    # three at 4.00, of which two are got for nothing; 10 % off the three that still cost something
    assert done.units.tolist() == [[3, 3, 2]]


def with_sorted_tags(own: Cart) -> Cart:
    lines = (replace(line, tags=tuple(sorted(line.tags))) for line in own.lines)
    return replace(own, lines=tuple(lines))


def test_carts_come_back_as_they_were() -> None:
    draw = Draw(np.random.default_rng(2))
    carts = [with_sorted_tags(draw_cart(draw)) for _ in range(50)]
    batch = CartBatch.of(carts)
    assert [batch.cart(i) for i in range(50)] == carts
    backwards = batch.take(np.arange(50)[::-1])
    assert [backwards.cart(i) for i in range(50)] == carts[::-1]


def test_scopes_hold_the_same_items_in_columns() -> None:
    draw = Draw(np.random.default_rng(3))
    batch = CartBatch.of([draw_cart(draw) for _ in range(100)])
    lines = [line for i in range(100) for line in batch.cart(i).lines]
    for i in range(60):
        scope = draw_offer(draw, f"o{i}").scope
        assert batch.lines_in(scope).tolist() == [scope.holds(line) for line in lines]


def test_bad_columns_and_calls_are_refused_by_name() -> None:
    good = CartBatch.of([cart(("a", 100, 1))], at=[np.datetime64("2026-01-05")], user_ids=["ann"])
    for name, value, words in (
        ("list_price", np.array([-1]), "carts.list_price"),
        ("quantity", np.array([0]), "carts.quantity"),
        ("item", np.array([3]), "carts.item"),
        ("start", np.array([0, 2]), "carts.start"),
        ("unit_cost", np.array([1, 2]), "carts.unit_cost"),
        ("list_price", np.array([1.5]), "carts.list_price"),
        ("item", np.array([2**32]), "carts.item"),
        ("at", np.array(["1969-01-01"], "M8[us]"), "carts.at"),
        ("items", (CartItem("b"), CartItem("a")), "carts.items"),
    ):
        with pytest.raises(DataError, match=words):
            replace(good, **{name: value})
    percent = offer("o", PercentOff(bp=1))
    daily = replace(percent, caps=Caps(budget=5, period="day"))
    each = replace(percent, caps=Caps(uses_per_user=1))
    nobody = replace(good, user=None, at=None)
    told = replace(ANYONE, left={"o": CapsLeft(budget=1)})
    choice = offer("g", Gift(sku="mug"))
    for batch, offers, context, drawn_down, words in (
        (good, [percent, percent], ANYONE, False, "unique"),
        (good, [replace(percent, currency="EUR")], ANYONE, False, "currency"),
        (good, [percent], [ANYONE] * 2, False, "context"),
        (nobody, [daily], ANYONE, True, "carts.at"),
        (nobody, [each], ANYONE, True, "carts.user"),
        (good, [percent], told, True, "context.left"),
        (good, [choice], replace(ANYONE, gift_choice={"g": "car"}), False, "gift_choice"),
    ):
        with pytest.raises(DataError, match=words):
            price_carts(batch, offers, context, draw_caps=drawn_down)
    with pytest.raises(DataError, match="n_threads"):
        price_carts(good, [percent], ANYONE, n_threads=0)
    with pytest.raises(DataError, match="by_line"):
        price_carts(good, [percent], ANYONE).cart(0)
    with pytest.raises(DataError, match="currency"):
        CartBatch.of([cart(), Cart(currency="EUR", lines=())])


def test_one_cart_is_priced_without_numpy() -> None:
    code = "import sys, promo_ray.offers; print('numpy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_tiers_that_repeat_without_end_stop_at_the_price() -> None:
    cheap = Tiered(tiers=(Tier(min=1, amount=1),), repeat_every=1)
    assert_equal_to_single_carts([cart(("a", 999, 3))], [offer("o", cheap)], [ANYONE])
