"""Bodies of the service's requests and answers; unknown keys are refused."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from promo_ray.decisions.decision import DecisionRequest, check_user_id
from promo_ray.decisions.feedback import Feedback, FeedbackStatus, FeedbackType

MAX_BATCH = 1000
_MAX_VALUE = 2**53


def _checked(user_id: str) -> str:
    check_user_id(user_id)
    return user_id


UserId = Annotated[
    str, AfterValidator(_checked), Field(description="1 to 256 bytes of UTF-8", max_length=256)
]
Name = Annotated[str, Field(min_length=1, max_length=256)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class DecisionIn(_Body):
    """A question: what does this user get?"""

    user_id: UserId
    consent: bool | None = Field(None, description="may personal data be used; null = not said")

    def to_request(self, idempotency_key: str) -> DecisionRequest:
        """The question as the decider takes it."""
        return DecisionRequest(
            user_id=self.user_id, has_consent=self.consent, idempotency_key=idempotency_key
        )


class DecisionBatchIn(_Body):
    """Many questions."""

    requests: list[DecisionIn] = Field(min_length=1, max_length=MAX_BATCH)


class FeedbackIn(_Body):
    """What happened to a decision."""

    event_id: Name = Field(description="the same id is counted once")
    decision_id: Name
    type: FeedbackType = Field(strict=False)
    value: int = Field(0, ge=-_MAX_VALUE, le=_MAX_VALUE, description="minor units")
    occurred_at: AwareDatetime | None = Field(None, strict=False)

    def to_event(self) -> Feedback:
        """The event as the ledger takes it."""
        occurred_at = self.occurred_at.timestamp() if self.occurred_at else 0.0
        return Feedback(self.event_id, self.decision_id, self.type, self.value, occurred_at)


class FeedbackBatchIn(_Body):
    """Many events."""

    events: list[FeedbackIn] = Field(min_length=1, max_length=MAX_BATCH)


class ReservationOut(_Body):
    """Budget that an offer holds."""

    amounts: dict[str, int] = Field(description="minor units by budget")
    currency: str
    expires_at: str
    state: str | None = Field(None, description="only when a decision is read back")


class PolicyOut(_Body):
    """Versions behind a decision."""

    policy_version: str
    model_version: str
    bundle: str


class ExplorationOut(_Body):
    """What the draw could have given."""

    epsilon: float
    eligible: list[str]
    greedy: str | None


class ExperimentOut(_Body):
    """Arm of the running experiment."""

    arm: str
    is_holdout: bool


class DisclosureOut(_Body):
    """What must be said beside the price."""

    is_price_personalized: bool
    text: str | None
    text_id: str | None


class DecisionOut(_Body):
    """An answer."""

    decision_id: str
    campaign: str
    decided_at: str
    offer: dict[str, Any] | None
    no_offer_reason: str | None
    reason_codes: list[str]
    recommended_items: list[str]
    policy: PolicyOut
    propensity: float | None
    exploration: ExplorationOut
    experiment: ExperimentOut
    reservation: ReservationOut | None
    disclosure: DisclosureOut
    degraded: list[str]
    feedback: dict[str, int] | None = Field(None, description="only when a decision is read back")


class DecisionBatchOut(_Body):
    """Answers in the order of the questions."""

    decisions: list[DecisionOut]


class FeedbackOut(_Body):
    """What became of an event."""

    status: FeedbackStatus


class FeedbackBatchOut(_Body):
    """What became of each event, in order."""

    statuses: list[FeedbackStatus]


class ErasureOut(_Body):
    """What was cut loose from a user."""

    n_decisions: int


class CampaignOut(_Body):
    """State of a campaign."""

    campaign: str
    is_paused: bool


class ModelOut(_Body):
    """A bundle under the models root."""

    version: str
    campaign: str
    policy_version: str
    model_version: str
    digest: str
    is_active: bool
    fault: str


class ModelsOut(_Body):
    """Every bundle under the models root."""

    models: list[ModelOut]


class HealthOut(_Body):
    """State of the process."""

    status: str


class FieldFault(_Body):
    """A field that breaks a rule; the pointer is a JSON pointer into the body."""

    pointer: str
    detail: str


class ProblemOut(_Body):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[FieldFault] | None = None
