from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from shop_bundle import OFFERS, Clock, make_content, open_bundle, user_ids

from promo_ray.data.pseudonym import pseudonymize
from promo_ray.decisions import (
    Decider,
    Decision,
    DecisionRequest,
    Disclosure,
    Ledger,
    LedgerConflictError,
    Reason,
)
from promo_ray.decisions.choice import greedy_slots, sample
from promo_ray.decisions.decision import DecisionIds
from promo_ray.errors import ConfigError, DataError
from promo_ray.seeding import keys_of


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db", clock=clock) as ledger:
        yield ledger


def ask(user: int | str, **fields: object) -> DecisionRequest:
    user_id = user if isinstance(user, str) else f"u{user:07d}"
    return DecisionRequest(user_id=user_id, **fields)  # type: ignore[arg-type]


def offer_id(decision: Decision) -> str | None:
    return str(decision.offer["id"]) if decision.offer else None


def test_planned_users_get_their_offer_and_the_others_none(
    tmp_path: Path, ledger: Ledger, clock: Clock
) -> None:
    content = make_content(60)
    decider = Decider(open_bundle(tmp_path, content), ledger, clock=clock)
    decisions = decider.decide_batch([ask(i) for i in range(60)])
    for i, decision in enumerate(decisions):
        slot = int(content.choice[i])
        if slot < 0:
            assert (decision.offer, decision.no_offer_reason) == (None, Reason.NOT_PLANNED)
            assert decision.reservation is None
            continue
        assert decision.offer == OFFERS[slot]
        assert list(decision.reason_codes) == [Reason.PLANNED]
        amount = int(np.ceil(float(content.cost[0, i, slot]) * 100 - 1e-3))
        assert decision.reservation is not None
        assert decision.reservation["amounts"] == {"main": amount}
        assert decision.propensity == 1.0
    held = sum(d.reservation["amounts"]["main"] for d in decisions if d.reservation)
    assert ledger.budgets("spring")[0].reserved == held
    assert ledger.count_decisions() == 60


def test_the_stored_decision_is_the_answer(tmp_path: Path, ledger: Ledger) -> None:
    decision = Decider(open_bundle(tmp_path), ledger).decide(ask(0))
    record = ledger.find(decision.decision_id)
    assert record is not None
    assert Decision.from_json(record.body) == decision


def test_without_a_binding_plan_the_best_gain_after_prices_is_chosen(tmp_path: Path) -> None:
    content = make_content(80, is_plan_binding=False, prices=(1.5,))
    content = replace(content, choice=np.full(80, -1, dtype=np.int32))
    decider = Decider(open_bundle(tmp_path, content))
    score = content.value - 1.5 * content.cost[0]
    for i, decision in enumerate(decider.decide_batch([ask(i) for i in range(80)])):
        best = int(score[i].argmax())
        wanted = OFFERS[best]["id"] if score[i, best] > 0 else None
        assert offer_id(decision) == wanted
        assert decision.reason_codes[-1] == (Reason.BEST_VALUE if wanted else Reason.NO_GAIN)


def test_a_planned_offer_that_is_not_eligible_gives_way_to_the_next_best(tmp_path: Path) -> None:
    content = make_content(6)
    value = content.value.copy()
    value[0, 0] = -np.inf
    decision = Decider(open_bundle(tmp_path, replace(content, value=value))).decide(ask(0))
    assert decision.offer is not None
    assert decision.offer["id"] != "ten_off"
    assert list(decision.reason_codes) == [Reason.PLAN_UNAVAILABLE, Reason.BEST_VALUE]


def test_nobody_of_the_holdout_ever_gets_an_offer(tmp_path: Path) -> None:
    fallback = {"fallback_slot": 2, "fallback_cost": (0.02,)}
    bundle = open_bundle(tmp_path, holdout_rate=0.3, epsilon=0.5, **fallback)
    decider = Decider(bundle)
    users = [*user_ids(60), *(f"new{i}" for i in range(200))]
    holdout = decider.planner.is_holdout(keys_of(users))
    assert 0.2 < holdout.mean() < 0.4
    for _ in range(5):
        decisions = decider.decide_batch([ask(u) for u in users])
        for decision, is_out in zip(decisions, holdout, strict=True):
            assert decision.experiment["is_holdout"] == is_out
            assert not (is_out and decision.offer)
        held_out = [d for d in decisions if d.experiment["is_holdout"]]
        assert {(d.no_offer_reason, d.propensity) for d in held_out} == {("holdout", 1.0)}


def test_unknown_and_unconsenting_users_get_the_same_impersonal_answer(
    tmp_path: Path, ledger: Ledger
) -> None:
    fallback = {"fallback_slot": 2, "fallback_cost": (0.02,)}
    decider = Decider(open_bundle(tmp_path, **fallback), ledger)
    unknown, refused, known = decider.decide_batch(
        [ask("nobody"), ask(0, has_consent=False), ask(0)]
    )
    assert list(unknown.reason_codes) == [Reason.UNKNOWN_USER, Reason.FALLBACK]
    assert list(refused.reason_codes) == [Reason.NO_CONSENT, Reason.FALLBACK]
    assert unknown.offer == refused.offer == OFFERS[2]
    assert unknown.recommended_items == refused.recommended_items == ["tea", "rice"]
    assert known.recommended_items[0] == "bread"
    assert unknown.reservation is not None
    assert unknown.reservation["amounts"] == {"main": 2}


def test_silence_is_no_consent_where_consent_is_required(tmp_path: Path) -> None:
    decider = Decider(open_bundle(tmp_path, is_consent_required=True))
    silent, yes = decider.decide_batch([ask(0), ask(0, has_consent=True)])
    assert (silent.no_offer_reason, yes.reason_codes[0]) == (Reason.NO_CONSENT, Reason.PLANNED)


def test_an_erased_user_is_not_known_any_more(tmp_path: Path, ledger: Ledger) -> None:
    decider = Decider(open_bundle(tmp_path), ledger)
    assert decider.decide(ask(0)).offer
    ledger.erase(int(decider.user_keys(["u0000000"]).view(np.int64)[0]))
    assert decider.decide(ask(0)).no_offer_reason == Reason.UNKNOWN_USER


def test_no_offers_while_paused_or_outside_the_window(
    tmp_path: Path, ledger: Ledger, clock: Clock
) -> None:
    window = {"starts_at": "2027-01-15T08:00:10Z", "ends_at": "2027-01-15T08:00:20+00:00"}
    decider = Decider(open_bundle(tmp_path, **window), ledger, clock=clock)
    clock.now_s = 1_800_000_000.0  # 2027-01-15T08:00:00Z
    assert decider.decide(ask(0)).no_offer_reason == Reason.NOT_RUNNING
    clock.now_s += 10
    assert decider.decide(ask(0)).offer
    ledger.pause("spring")
    assert decider.decide(ask(0)).no_offer_reason == Reason.CAMPAIGN_PAUSED
    ledger.resume("spring")
    clock.now_s += 10
    assert decider.decide(ask(0)).no_offer_reason == Reason.NOT_RUNNING


def test_the_cap_holds_within_one_batch_and_over_several(
    tmp_path: Path, ledger: Ledger, clock: Clock
) -> None:
    decider = Decider(open_bundle(tmp_path, max_uses=2, cap_window_s=60.0), ledger, clock=clock)
    decisions = decider.decide_batch([ask(0)] * 5)
    assert [d.offer is not None for d in decisions] == [True, True, False, False, False]
    refused = decisions[2]
    assert (refused.no_offer_reason, refused.propensity) == (Reason.CAP_REACHED, None)
    assert list(refused.degraded) == ["refused_by_ledger"]
    later = decider.decide(ask(0))
    assert (later.no_offer_reason, later.propensity, later.degraded) == ("cap_reached", 1.0, [])


def test_the_budget_is_never_exceeded_and_the_loss_is_told(tmp_path: Path, ledger: Ledger) -> None:
    decider = Decider(open_bundle(tmp_path, budgets=(5.0,)), ledger)
    decisions = [d for _ in range(3) for d in decider.decide_batch([ask(i) for i in range(60)])]
    held = sum(d.reservation["amounts"]["main"] for d in decisions if d.reservation)
    line = ledger.budgets("spring")[0]
    assert held == line.reserved <= line.total == 500
    assert held > 450
    assert Counter(d.no_offer_reason for d in decisions)[Reason.BUDGET_EXHAUSTED] > 10


def test_the_draw_matches_the_logged_propensities(tmp_path: Path) -> None:
    content = make_content(3, epsilon=0.3)
    value = content.value.copy()
    value[0, 1] = -np.inf
    decider = Decider(open_bundle(tmp_path, replace(content, value=value)))
    n = 20_000
    decisions = decider.decide_batch([ask(0)] * n)
    counts = Counter(offer_id(d) for d in decisions)
    told = {offer_id(d): d.propensity for d in decisions}
    assert set(told) == {None, "ten_off", "hello"}
    assert sum(p for p in told.values() if p) == pytest.approx(1.0)
    assert told["ten_off"] == pytest.approx(0.7 + 0.1)
    expected = [n * (told[a] or 0.0) for a in told]
    assert chisquare([counts[a] for a in told], expected).pvalue > 1e-4


def test_a_logged_draw_can_be_replayed(tmp_path: Path) -> None:
    bundle = open_bundle(tmp_path, epsilon=0.5, seed=11)
    decider = Decider(bundle)
    names = [str(o["id"]) for o in OFFERS]
    decisions = decider.decide_batch([ask(i % 60) for i in range(300)])
    log = [d.exploration for d in decisions]
    eligible = np.array([[n in e["eligible"] for n in names] for e in log])
    greedy = np.array([names.index(e["greedy"]) if e["greedy"] else -1 for e in log])
    draws = decider.planner.draw(keys_of([d.decision_id for d in decisions]))
    again = sample(greedy, eligible, draws, log[0]["epsilon"])
    assert [names[s] if s >= 0 else None for s in again.slot] == [offer_id(d) for d in decisions]
    assert again.propensity.tolist() == [d.propensity for d in decisions]
    assert {d.experiment["arm"] for d in decisions} == {"policy", "exploration"}


@given(data=st.data(), n=st.integers(1, 5), m=st.integers(0, 4), k=st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_greedy_agrees_with_enumeration(data: st.DataObject, n: int, m: int, k: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    value, cost = rng.normal(0, 1, (n, m)), rng.uniform(0, 1, (n, k, m))
    prices, choice = rng.uniform(0, 2, k), rng.integers(-1, m, n)
    eligible = rng.random((n, m)) < 0.6
    is_binding = bool(rng.integers(2))
    told = greedy_slots(value, cost, prices, choice, eligible, is_plan_binding=is_binding)
    for i in range(n):
        scores = {
            j: value[i, j] - sum(prices[b] * cost[i, b, j] for b in range(k))
            for j in range(m)
            if eligible[i, j]
        }
        wanted = -1
        if choice[i] >= 0 and eligible[i, choice[i]]:
            wanted = int(choice[i])
        elif scores and max(scores.values()) > 0 and (choice[i] >= 0 or not is_binding):
            wanted = max(scores, key=lambda j: scores[j])
        assert told.slot[i] == wanted


@given(
    eligible=st.lists(st.booleans(), min_size=0, max_size=5),
    epsilon=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
def test_propensities_sum_to_one_and_are_the_lengths_of_the_draws(
    eligible: list[bool], epsilon: float
) -> None:
    n = 2000
    mask = np.tile(np.array(eligible, dtype=np.bool_), (n, 1))
    slots = [j for j, may in enumerate(eligible) if may]
    greedy = np.full(n, slots[0] if slots else -1)
    told = sample(greedy, mask, (np.arange(n) + 0.5) / n, epsilon)
    by_action = dict(zip(told.slot.tolist(), told.propensity.tolist(), strict=True))
    if epsilon:
        assert set(by_action) == {-1, *slots}
    assert sum(by_action.values()) == pytest.approx(1.0)
    for action, propensity in by_action.items():
        assert (told.slot == action).mean() == pytest.approx(propensity, abs=4 / n)


def test_the_same_key_gives_the_same_decision_and_another_question_a_conflict(
    tmp_path: Path, ledger: Ledger
) -> None:
    decider = Decider(open_bundle(tmp_path, epsilon=1.0), ledger)
    first = decider.decide(ask(0, idempotency_key="k"))
    assert decider.decide(ask(0, idempotency_key="k")) == first
    with pytest.raises(LedgerConflictError):
        decider.decide(ask(1, idempotency_key="k"))
    assert ledger.count_decisions() == 1


def test_pseudonymous_bundles_are_found_by_the_ids_of_applications(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = b"0123456789abcdef"
    content = make_content(4, is_pseudonymous=True)
    content = replace(content, user_ids=pseudonymize(content.user_ids, key))
    bundle = open_bundle(tmp_path, content)
    assert Decider(bundle, pseudonym_key=key).decide(ask(0)).offer
    monkeypatch.delenv("PROMO_RAY_PSEUDONYM_KEY", raising=False)
    with pytest.raises(ConfigError, match="PROMO_RAY_PSEUDONYM_KEY"):
        Decider(bundle)
    monkeypatch.setenv("PROMO_RAY_PSEUDONYM_KEY", key.decode())
    assert Decider(bundle).decide(ask(0)).offer


def test_a_personal_price_is_disclosed_and_a_message_or_common_offer_is_not(
    tmp_path: Path,
) -> None:
    law = Disclosure(is_required=True, text="Said.", text_id="t")
    fallback = {"fallback_slot": 0, "fallback_cost": (1.0,)}
    content = make_content(9, disclosure=law, **fallback)
    content = replace(content, choice=np.arange(9, dtype=np.int32) % 3)
    decider = Decider(open_bundle(tmp_path, content))
    price, _, message, common = decider.decide_batch([ask(0), ask(1), ask(2), ask("nobody")])
    assert price.disclosure == {
        "is_price_personalized": True,
        "text": "Said.",
        "text_id": "t",
    }
    for decision in (message, common):
        assert decision.offer
        assert decision.disclosure["is_price_personalized"] is False
        assert decision.disclosure["text"] is None


@pytest.mark.parametrize("user_id", ["", "\0", "a\ud800", "ü" * 129])
def test_ids_that_no_table_can_hold_are_refused(user_id: str) -> None:
    with pytest.raises(DataError, match="user_id"):
        DecisionRequest(user_id=user_id)


def test_ids_rise_though_the_clock_falls_and_are_uuids_of_version_7() -> None:
    new_id = DecisionIds()
    times = [100.0] * 5000 + [99.0] * 10 + [100.1]
    ids = [new_id(t) for t in times]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert {(i[14], i[19] in "89ab", len(i)) for i in ids} == {("7", True, 36)}
