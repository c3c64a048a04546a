"""What must hold for every cart; the judges stand in `promo_ray.bench.offers_judges`."""

from __future__ import annotations

from typing import Any

import pytest

from promo_ray.bench import offers_judges
from promo_ray.bench.offers_cases import Draw, draw_cases
from promo_ray.bench.offers_judges import violations
from promo_ray.offers import Reason, pricing, units
from promo_ray.seeding import stream


def faults(seed: int, n: int) -> list[str]:
    rng = stream(seed, "test_invariants")
    draw = Draw(rng)
    return [fault for case in draw_cases(rng, n) for fault in violations(case, draw)]


def test_invariants_hold_on_random_carts() -> None:
    assert faults(0, 400) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_invariants_hold_on_100_000_random_carts(seed: int) -> None:
    for part in range(5):
        assert faults(100 * seed + part, 2000) == []


def test_random_cases_reach_every_mechanic_and_most_reasons() -> None:
    cases = draw_cases(stream(0, "test_invariants.reach"), 1500)
    applied: set[str] = set()
    rejected: set[Reason] = set()
    for case in cases:
        priced = offers_judges.price_cart(*case)
        by_id = {o.id: o.mechanic.method for o in case.offers}
        applied |= {by_id[a.offer_id] for a in priced.applied}
        rejected |= {r.reason for r in priced.rejected}
    assert len(applied) == 8  # all but the message
    assert len(rejected) >= 20


# Each judge must be able to find a fault: the pricer is broken on purpose.


def _one_cent_lost(allocate: Any) -> Any:
    def broken(off: Any, den: Any, quantities: Any, limit: Any) -> Any:
        total, shares = allocate(off, den, quantities, limit)
        return total, [(share, 0) for share, _ in shares]

    return broken


def _caps_forgotten(allocate: Any) -> Any:
    return lambda off, den, quantities, limit: allocate(off, den, quantities, None)


def _rounded_per_unit(allocate: Any) -> Any:
    def broken(off: Any, den: Any, quantities: Any, limit: Any) -> Any:
        whole = [-(-o // den) for o in off]
        return allocate(whole, 1, quantities, limit)

    return broken


@pytest.mark.parametrize(
    ("spoil", "judges"),
    [
        (_one_cent_lost, {"every_offer_is_told_of", "the_best_of_a_group_saves_most"}),
        (_caps_forgotten, {"caps_hold"}),
        (_rounded_per_unit, {"initial_base_forgets_priorities"}),
    ],
)
def test_judges_find_a_broken_allocation(
    monkeypatch: pytest.MonkeyPatch, spoil: Any, judges: set[str]
) -> None:
    monkeypatch.setattr(pricing, "allocate", spoil(pricing.allocate))
    found = {fault.split(":")[0] for fault in faults(0, 150)}
    assert found & judges


def test_judges_find_rejected_offers_that_still_act(monkeypatch: pytest.MonkeyPatch) -> None:
    _attempt = pricing._attempt

    def broken(state: Any, offer: Any) -> Any:
        has_code = Reason.CODE_MISSING not in state.rejected.values()
        return _attempt(state, offer) if has_code else Reason.NOT_COMBINABLE

    monkeypatch.setattr(pricing, "_attempt", broken)
    found = {fault.split(":")[0] for fault in faults(0, 150)}
    assert "ineligible_offers_do_not_matter" in found


def test_judges_find_forgotten_floors_and_lines_taken_in_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(units, "_floor", lambda offer, item: 0)
    assert "floors_hold" in {fault.split(":")[0] for fault in faults(0, 150)}
    monkeypatch.undo()
    key_of = units.key_of
    monkeypatch.setattr(units, "key_of", lambda line: (f"{line.quantity}", *key_of(line)[1:]))
    monkeypatch.setattr("promo_ray.offers.bill.key_of", units.key_of)
    broken = {fault.split(":")[0] for fault in faults(0, 150)}
    assert "order_and_split_of_lines_do_not_matter" in broken
