"""The decision at run time: ask the planner, hold the budget in the ledger, say why."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from promo_ray.data.pseudonym import KEY_VARIABLE, key_from_environment, pseudonymize
from promo_ray.decisions.accounts import Entry, Outcome, Receipt
from promo_ray.decisions.bundle import DecisionBundle
from promo_ray.decisions.decision import (
    Decision,
    DecisionIds,
    DecisionRequest,
    check_user_id,
    iso_time,
)
from promo_ray.decisions.ledger import Ledger, Room
from promo_ray.decisions.planner import Plan, Planner
from promo_ray.errors import ConfigError
from promo_ray.seeding import keys_of

_MESSAGE = "message"  # mechanic that changes no price


class Decider:
    """Answers requests from one bundle; safe to call from many threads.

    Args:
        bundle: what to decide from.
        ledger: where budgets are held and decisions recorded; None = every request sees the
            whole budget and nothing is recorded (for simulation).
        clock: seconds since 1970.
        pseudonym_key: key of the bundle's pseudonyms; None = from the environment if needed.

    Raises:
        ConfigError: the bundle holds pseudonyms and there is no key.
        LedgerUnavailableError: the campaign cannot be entered into the ledger.
    """

    def __init__(
        self,
        bundle: DecisionBundle,
        ledger: Ledger | None = None,
        *,
        clock: Callable[[], float] = time.time,
        pseudonym_key: bytes | None = None,
    ) -> None:
        policy = bundle.policy
        self.bundle = bundle
        self.ledger = ledger
        self.planner = Planner(bundle)
        self._clock = clock
        self._new_id = DecisionIds()
        self._key = pseudonym_key or key_from_environment() if policy.is_pseudonymous else None
        if policy.is_pseudonymous and not self._key:
            raise ConfigError(f"{KEY_VARIABLE} must be set: the bundle knows users by pseudonyms")
        self._offer_ids = [str(offer["id"]) for offer in bundle.offers]
        self._versions = {
            "policy_version": policy.policy_version,
            "model_version": policy.model_version,
            "bundle": bundle.digest,
        }
        said = policy.disclosure
        self._notices = [_notice(False), _notice(True)]
        if said.is_required:
            self._notices[1] = _notice(True, said.text, said.text_id)
        if ledger is not None:
            ledger.declare(policy.campaign, policy.budgets_minor)

    def decide(self, request: DecisionRequest) -> Decision:
        """Answer one request; see `decide_batch`."""
        return self.decide_batch([request])[0]

    def decide_batch(self, requests: Sequence[DecisionRequest]) -> list[Decision]:
        """Answer requests in order; budgets are held and answers recorded, all or none.

        Raises:
            LedgerUnavailableError: the ledger cannot be read or written; nothing was granted.
            LedgerConflictError: an idempotency key came before with another request.
        """
        return [Decision.from_json(receipt.body) for receipt in self.submit(requests).result()]

    def submit(self, requests: Sequence[DecisionRequest]) -> Future[list[Receipt]]:
        """Choose now; the future holds the answers' JSON when they are on disk."""
        keys = self.user_keys([r.user_id for r in requests])
        now_s = self._clock()
        ids = [self._new_id(now_s) for _ in requests]
        consent = np.array([self._may_use(r.has_consent) for r in requests], dtype=np.bool_)
        signed = keys.view(np.int64).tolist()
        plan = self.planner.plan(keys, consent, self._room(signed), keys_of(ids), now_s)
        drafts = self._drafts(plan, ids, now_s)
        entries = [
            self._entry(draft, request, user_key, _fingerprint(request, i, len(requests)))
            for i, (draft, request, user_key) in enumerate(
                zip(drafts, requests, signed, strict=True)
            )
        ]
        if self.ledger is not None:
            return self.ledger.submit(entries)
        future: Future[list[Receipt]] = Future()
        outcomes = [Outcome.GRANTED if e.has_offer else Outcome.NO_OFFER for e in entries]
        future.set_result([Receipt(o, e.render(o)) for o, e in zip(outcomes, entries, strict=True)])
        return future

    def user_keys(self, user_ids: Sequence[str]) -> NDArray[np.uint64]:
        """Keys of users as requests name them: `(n,)` uint64.

        Raises:
            DataError: an id that no table can hold.
        """
        for user_id in user_ids:
            check_user_id(user_id)
        return keys_of(pseudonymize(user_ids, self._key) if self._key else user_ids)

    def _may_use(self, has_consent: bool | None) -> bool:
        if has_consent is None:
            return not self.bundle.policy.is_consent_required
        return has_consent

    def _room(self, keys: list[int]) -> Room:
        policy = self.bundle.policy
        if self.ledger is None:
            n = len(keys)
            uses, is_erased = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.bool_)
            return Room(False, policy.budgets_minor, uses, is_erased)
        return self.ledger.room(
            policy.campaign, keys, max_uses=policy.max_uses, window_s=policy.cap_window_s
        )

    def _drafts(self, plan: Plan, ids: Sequence[str], now_s: float) -> list[Decision]:
        """Decisions as they are if the ledger grants them."""
        policy, bundle = self.bundle.policy, self.bundle
        decided_at, expires_at = iso_time(now_s), iso_time(now_s + policy.reservation_ttl_s)
        slots, greedy, rows = plan.slot.tolist(), plan.greedy.tolist(), plan.rows.tolist()
        eligible, propensity = plan.eligible.tolist(), plan.propensity.tolist()
        amounts, holdout = plan.amounts.tolist(), plan.is_holdout.tolist()
        explored = plan.is_explored.tolist()
        drafts = []
        for i, decision_id in enumerate(ids):
            slot, is_personal = slots[i], rows[i] >= 0
            offer = bundle.offers[slot] if slot >= 0 else None
            arm = "policy" if is_personal else "fallback"
            arm = "exploration" if explored[i] else "holdout" if holdout[i] else arm
            held = {
                "amounts": dict(zip(policy.budget_names, amounts[i], strict=True)),
                "currency": policy.currency,
                "expires_at": expires_at,
            }
            drafts.append(
                Decision(
                    decision_id=decision_id,
                    campaign=policy.campaign,
                    decided_at=decided_at,
                    offer=offer,
                    no_offer_reason=None if offer else str(plan.reasons[i][-1]),
                    reason_codes=[str(reason) for reason in plan.reasons[i]],
                    recommended_items=bundle.items_of(rows[i], policy.n_items),
                    policy=self._versions,
                    propensity=propensity[i],
                    exploration={
                        "epsilon": policy.epsilon,
                        "eligible": [
                            name for name, may in zip(self._offer_ids, eligible[i], strict=True)
                            if may
                        ],
                        "greedy": self._offer_ids[greedy[i]] if greedy[i] >= 0 else None,
                    },
                    experiment={"arm": arm, "is_holdout": holdout[i]},
                    reservation=held if offer else None,
                    disclosure=self._notices[bool(offer and is_personal and _moves_price(offer))],
                )
            )  # fmt: skip
        return drafts

    def _entry(
        self, draft: Decision, request: DecisionRequest, user_key: int, fingerprint: bytes
    ) -> Entry:
        policy = self.bundle.policy
        return Entry(
            decision_id=draft.decision_id,
            campaign=policy.campaign,
            user_key=user_key,
            has_offer=draft.offer is not None,
            amounts=draft.reservation["amounts"] if draft.reservation else {},
            render=partial(_render, draft),
            ttl_s=policy.reservation_ttl_s,
            max_uses=policy.max_uses,
            window_s=policy.cap_window_s,
            answer_key=request.idempotency_key,
            fingerprint=fingerprint,
        )


def _render(draft: Decision, outcome: Outcome) -> bytes:
    """Body of a decision after the ledger's word; a refusal takes the offer back."""
    if outcome in (Outcome.GRANTED, Outcome.NO_OFFER):
        return draft.to_json()
    reason = str(outcome)  # outcomes of refusal are reasons of the same name
    refused = replace(
        draft,
        offer=None,
        no_offer_reason=reason,
        reason_codes=[*draft.reason_codes, reason],
        propensity=None,
        reservation=None,
        disclosure=_notice(False),
        degraded=["refused_by_ledger"],
    )
    return refused.to_json()


def _notice(
    is_personal: bool, text: str | None = None, text_id: str | None = None
) -> dict[str, Any]:
    return {"is_price_personalized": is_personal, "text": text, "text_id": text_id}


def _moves_price(offer: Mapping[str, Any]) -> bool:
    mechanic = offer.get("mechanic")
    kind = mechanic.get("type") if isinstance(mechanic, Mapping) else mechanic
    return kind != _MESSAGE


def _fingerprint(request: DecisionRequest, index: int, n_requests: int) -> bytes:
    if not request.idempotency_key:
        return b""
    contents = orjson.dumps([request.user_id, request.has_consent, index, n_requests])
    return hashlib.blake2b(contents, digest_size=16).digest()
