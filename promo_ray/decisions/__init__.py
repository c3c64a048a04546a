"""Decisions at run time: bundle, decider, ledger, service; NumPy does the sums."""

from promo_ray.decisions.accounts import (
    Entry,
    LedgerConflictError,
    LedgerMissingError,
    Outcome,
    Receipt,
    State,
)
from promo_ray.decisions.bundle import BundleContent, DecisionBundle, write_bundle
from promo_ray.decisions.decider import Decider
from promo_ray.decisions.decision import Decision, DecisionRequest, Reason
from promo_ray.decisions.feedback import Feedback, FeedbackStatus, FeedbackType
from promo_ray.decisions.group_commit import LedgerUnavailableError
from promo_ray.decisions.ledger import Ledger
from promo_ray.decisions.policy import Disclosure, Policy

__all__ = [
    "BundleContent",
    "Decider",
    "Decision",
    "DecisionBundle",
    "DecisionRequest",
    "Disclosure",
    "Entry",
    "Feedback",
    "FeedbackStatus",
    "FeedbackType",
    "Ledger",
    "LedgerConflictError",
    "LedgerMissingError",
    "LedgerUnavailableError",
    "Outcome",
    "Policy",
    "Reason",
    "Receipt",
    "State",
    "write_bundle",
]
