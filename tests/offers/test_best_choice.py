"""Deals and bundles against all ways to make them, on carts of up to eight units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import pytest
from small_carts import line, offer, price

from promo_ray.bench.offers_cases import Draw, draw_line, draw_scope
from promo_ray.offers import BuyGet, CartLine, ProductBundle, Slot
from promo_ray.seeding import stream


def units(draw: Draw, most: int) -> list[CartLine]:
    """Up to `most` units, each a line of its own."""
    lines = [draw_line(draw) for _ in range(draw.int(1, most))]
    return [
        CartLine(**{**{f: getattr(x, f) for f in x.__dataclass_fields__}, "quantity": 1})
        for x in lines
    ]


def ways_to_get(
    deal: BuyGet, cart: Sequence[CartLine], times: int
) -> Iterator[tuple[CartLine, ...]]:
    """Units got in every way to do a deal so often."""
    n = len(cart)
    paid = [i for i in range(n) if cart[i].list_price > 0]
    can_get = [i for i in paid if deal.get.holds(cart[i])]
    can_buy = [i for i in paid if deal.buy.holds(cart[i])]
    for got in combinations(can_get, times * deal.get.quantity):
        if len(set(can_buy) - set(got)) >= times * deal.buy.quantity:
            yield tuple(cart[i] for i in got)


def check_deal(draw: Draw) -> None:
    cart = units(draw, 8)
    deal = BuyGet(
        buy=Slot(scope=draw_scope(draw), quantity=draw.int(1, 3)),
        get=Slot(scope=draw_scope(draw), quantity=draw.int(1, 2)),
        bp=draw.one((10_000, 5000)),
        pick=draw.one(("cheapest", "dearest")),
        max_times=draw.maybe(0.3, 1, 2),
    )
    times = max(t for t in range(9) if t == 0 or any(ways_to_get(deal, cart, t)))
    times = times if deal.max_times is None else min(times, deal.max_times)
    totals = [sum(x.list_price for x in got) for got in ways_to_get(deal, cart, times)]
    best = (min if deal.pick == "cheapest" else max)(totals)
    expected = best - (best * (10_000 - deal.bp) * 2 + 10_000) // 20_000
    assert price(cart, offer("x", deal)).totals.saving == expected, (deal, cart)


def ways_to_bundle(slots: Sequence[Slot], cart: Sequence[CartLine]) -> Iterator[int]:
    """List totals of all sets of units, by index, that fill every slot once; one per filling."""
    need = [slot for slot in slots for _ in range(slot.quantity)]

    def fill(k: int, used: frozenset[int]) -> Iterator[frozenset[int]]:
        if k == len(need):
            yield used
            return
        for i, unit in enumerate(cart):
            if i not in used and need[k].holds(unit):
                yield from fill(k + 1, used | {i})

    yield from {sum(1 << i for i in used) for used in fill(0, frozenset())}


def check_bundle(draw: Draw) -> None:
    cart = units(draw, 7)
    slots = tuple(
        Slot(scope=draw_scope(draw), quantity=draw.int(1, 2)) for _ in range(draw.int(2, 3))
    )
    bundle_price = draw.one((None, 0, 500, 2000))
    reward = {"bp": 10_000} if bundle_price is None else {"price": bundle_price}
    bundle = ProductBundle(slots=slots, max_times=draw.maybe(0.3, 1, 2), **reward)
    sets = list(ways_to_bundle(slots, cart))
    value = [sum(x.list_price for i, x in enumerate(cart) if s >> i & 1) for s in sets]
    best: dict[int, int] = {0: 0}  # number of bundles -> dearest total

    def more(start: int, used: int, times: int, total: int) -> None:
        best[times] = max(best.get(times, 0), total)
        for j in range(start, len(sets)):
            if not used & sets[j]:
                more(j + 1, used | sets[j], times + 1, total + value[j])

    more(0, 0, 0, 0)
    allowed = {t: v for t, v in best.items() if bundle.max_times is None or t <= bundle.max_times}
    if bundle_price is None:
        expected = allowed[max(allowed)]
    else:
        expected = max(v - t * bundle_price for t, v in allowed.items())
    assert price(cart, offer("x", bundle)).totals.saving == expected, (bundle, cart)


@pytest.mark.parametrize("check", [check_deal, check_bundle])
def test_greedy_choice_is_the_best_of_all(check: object) -> None:
    draw = Draw(stream(0, "test_best_choice"))
    for _ in range(400):
        check(draw)  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_deal, check_bundle])
def test_greedy_choice_is_the_best_of_all_in_many_carts(check: object) -> None:
    for seed in range(10):
        draw = Draw(stream(seed, "test_best_choice.many"))
        for _ in range(1000):
            check(draw)  # type: ignore[operator]


def test_a_large_run_of_units_is_no_slower() -> None:
    many = price([line("a", 3, 10**8)], offer("x", BuyGet()))
    assert many.totals.saving == 3 * 10**8 // 2
    half = ProductBundle.of_items("a", "b", price=4)
    priced = price([line("a", 3, 10**8), line("b", 2, 10**7)], offer("x", half))
    assert priced.totals.saving == 10**7
