"""What goes into a decision and what comes out, with the fixed words for why."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson

from promo_ray.errors import DataError

MAX_ID_BYTES = 256


class Reason(StrEnum):
    """Why a decision is what it is; these words never change their meaning."""

    PLANNED = "planned"  # the allocation gave this offer
    BEST_VALUE = "best_value"  # highest gain after paying for the budgets at their prices
    EXPLORED = "explored"  # drawn at random to learn
    FALLBACK = "fallback_offer"  # the same offer for everybody about whom nothing may be used
    UNKNOWN_USER = "unknown_user"
    NO_CONSENT = "no_consent"
    HOLDOUT = "holdout"
    PLAN_UNAVAILABLE = "planned_offer_unavailable"
    NOT_PLANNED = "not_in_plan"
    NO_GAIN = "no_positive_gain"
    CAP_REACHED = "cap_reached"
    BUDGET_EXHAUSTED = "budget_exhausted"
    CAMPAIGN_PAUSED = "campaign_paused"
    NOT_RUNNING = "outside_campaign_window"


def check_user_id(user_id: str) -> None:
    """Refuse ids that no table can hold.

    Raises:
        DataError: not 1 to 256 bytes of UTF-8, or a NUL in it.
    """
    try:
        n_bytes = len(user_id.encode())
    except UnicodeEncodeError as error:
        raise DataError(
            "must be valid Unicode; it has a lone surrogate", where="user_id"
        ) from error
    if not 1 <= n_bytes <= MAX_ID_BYTES or "\0" in user_id:
        raise DataError(
            f"must have 1 to {MAX_ID_BYTES} bytes without NUL; got {n_bytes}", where="user_id"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionRequest:
    """One question.

    Attributes:
        user_id: id as events name it; see `check_user_id`.
        has_consent: whether the user's data may be used; None = not said.
        idempotency_key: the same key and request give the same answer for a day; empty = none.
    """

    user_id: str
    has_consent: bool | None = None
    idempotency_key: str = ""

    def __post_init__(self) -> None:
        check_user_id(self.user_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One answer; its JSON form has exactly these keys.

    Attributes:
        decision_id: UUIDv7, rises with time.
        campaign: campaign that answered.
        decided_at: UTC time, ISO 8601.
        offer: executable offer, money in minor units; None = none.
        no_offer_reason: why there is none.
        reason_codes: why, at most 5 of `Reason`, the deciding one last.
        recommended_items: item ids, best first.
        policy: `policy_version`, `model_version`, `bundle` (digest).
        propensity: probability of this action over the actions that were possible; None if the
            ledger refused what was drawn (such rows are not for off-policy estimates).
        exploration: `epsilon`, `eligible` (offer ids), `greedy` (offer id or None).
        experiment: `arm` (policy, exploration, fallback, holdout), `is_holdout`.
        reservation: `amounts` by budget in minor units, `currency`, `expires_at`; or None.
        disclosure: `is_price_personalized`, `text` and `text_id` (None if nothing need be said).
        degraded: what went another way than meant.
    """

    decision_id: str
    campaign: str
    decided_at: str
    offer: Mapping[str, Any] | None
    no_offer_reason: str | None
    reason_codes: Sequence[str]
    recommended_items: Sequence[str]
    policy: Mapping[str, str]
    propensity: float | None
    exploration: Mapping[str, Any]
    experiment: Mapping[str, Any]
    reservation: Mapping[str, Any] | None
    disclosure: Mapping[str, Any]
    degraded: Sequence[str] = ()

    def to_json(self) -> bytes:
        """JSON object on one line."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, body: bytes) -> Decision:
        """Decision of its JSON form."""
        return cls(**orjson.loads(body))


def iso_time(at_s: float) -> str:
    """UTC time of seconds since 1970, to the millisecond."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")


class DecisionIds:
    """Source of UUIDv7: milliseconds, a counter, 62 random bits; rising within a process.

    Source: RFC 9562, section 5.7 and method 1 of section 6.2.
    """

    _MAX_COUNT = (1 << 12) - 1

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_ms = 0
        self._count = 0

    def __call__(self, now_s: float) -> str:
        """Next id; a clock that steps back does not make it fall."""
        with self._lock:
            ms = int(now_s * 1000)
            if ms > self._last_ms:
                self._last_ms, self._count = ms, 0
            elif self._count < self._MAX_COUNT:
                self._count += 1
            else:
                self._last_ms, self._count = self._last_ms + 1, 0
            high = (self._last_ms << 16) | (7 << 12) | self._count
        low = (int.from_bytes(os.urandom(8), "big") >> 2) | (2 << 62)
        text = f"{high:016x}{low:016x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
