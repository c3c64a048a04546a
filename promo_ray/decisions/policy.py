"""What a decision bundle fixes besides the numbers: budgets, guardrails, versions, disclosure."""

from __future__ import annotations

import math
import re
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from promo_ray.config import config_class
from promo_ray.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # names that may stand in a path of the service
MAX_MINOR = 2**53  # largest amount of money, minor units: exact in JSON of every client
_SLACK = 1e-3  # of a minor unit: float32 costs such as 0.1 lie just above the amount meant


@config_class
class Disclosure:
    """What the law wants said beside a price that personal data moved.

    Attributes:
        is_required: say it with every offer that changes a price for this user.
        text: the sentence to show.
        text_id: identifier of the sentence, for translation by the application.
    """

    is_required: bool = False
    text: str = "This price was set by an algorithm using your personal data."
    text_id: str = "personalized_price"


@config_class
class Policy:
    """Document `policy` of a decision bundle.

    Attributes:
        campaign: name of the campaign, 1 to 64 of A-Z a-z 0-9 _ . -.
        policy_version: version of the plan (offers, prices, choices).
        model_version: version of the response model behind it.
        budget_names: names of the budgets; the ledger holds each exactly.
        budgets: total of each budget, currency units.
        prices: worth of one unit of each budget, from the allocation, >= 0.
        currency: ISO 4217 code.
        minor_per_unit: minor units in one currency unit.
        starts_at: first instant of the campaign, ISO 8601 with offset; empty = always.
        ends_at: instant from which no offer is made; empty = never.
        seed: seed of holdout and exploration.
        epsilon: share of decisions drawn uniformly from the eligible actions, [0, 1].
        holdout_rate: share of users who never get an offer, [0, 1].
        holdout_salt: name of the experiment; another one draws another holdout.
        max_uses: offers that a user may get in `cap_window_s`; 0 = no cap.
        cap_window_s: length of the cap's window, seconds.
        reservation_ttl_s: an offer not confirmed for so long gives its budget back, seconds.
        is_plan_binding: users whom the plan gives no offer get none; otherwise they get their
            best offer at the plan's prices.
        is_consent_required: a request that does not say so counts as without consent.
        fallback_slot: offer for users unknown or without consent; -1 = none.
        fallback_cost: expected use of each budget by the fallback offer, currency units.
        n_items: recommended items in a decision.
        is_pseudonymous: ids in the bundle are keyed pseudonyms of the ids in requests.
        disclosure: what to say about personal prices.
    """

    campaign: str
    policy_version: str
    model_version: str
    budget_names: tuple[str, ...]
    budgets: tuple[float, ...]
    prices: tuple[float, ...]
    currency: str = "USD"
    minor_per_unit: int = 100
    starts_at: str = ""
    ends_at: str = ""
    seed: int = 0
    epsilon: float = 0.0
    holdout_rate: float = 0.0
    holdout_salt: str = "holdout"
    max_uses: int = 0
    cap_window_s: float = 7 * 86400.0
    reservation_ttl_s: float = 900.0
    is_plan_binding: bool = True
    is_consent_required: bool = False
    fallback_slot: int = -1
    fallback_cost: tuple[float, ...] = ()
    n_items: int = 5
    is_pseudonymous: bool = False
    disclosure: Disclosure = Disclosure()

    def __post_init__(self) -> None:
        n = len(self.budget_names)
        if not NAME.fullmatch(self.campaign):
            raise ConfigError(f"campaign must match {NAME.pattern}; got {self.campaign!r}")
        if len(set(self.budget_names)) != n or len(self.budgets) != n or len(self.prices) != n:
            raise ConfigError("budget_names (unique), budgets and prices must have one length")
        if min((*self.budgets, *self.prices, *self.fallback_cost), default=0.0) < 0:
            raise ConfigError("budgets, prices and fallback_cost must be >= 0")
        if not (0 <= self.epsilon <= 1 and 0 <= self.holdout_rate <= 1):
            raise ConfigError("epsilon and holdout_rate must lie in [0, 1]")
        if self.fallback_slot >= 0 and len(self.fallback_cost) != n:
            raise ConfigError(f"fallback_cost must have {n} entries; got {self.fallback_cost!r}")
        if self.max_uses < 0 or self.n_items < 0 or self.minor_per_unit < 1:
            raise ConfigError("max_uses and n_items must be >= 0, minor_per_unit >= 1")
        if self.cap_window_s <= 0 or self.reservation_ttl_s <= 0:
            raise ConfigError("cap_window_s and reservation_ttl_s must be > 0 s")
        if max(self.budgets, default=0.0) * self.minor_per_unit >= MAX_MINOR:
            raise ConfigError(f"budgets must be < {MAX_MINOR} minor units; got {self.budgets!r}")
        self.window_s  # noqa: B018 - raises for a date that cannot be read

    @property
    def window_s(self) -> tuple[float, float]:
        """Start and end of the campaign, seconds since 1970; infinite where open."""
        start = _instant("starts_at", self.starts_at, -math.inf)
        return start, _instant("ends_at", self.ends_at, math.inf)

    @property
    def budgets_minor(self) -> dict[str, int]:
        """Total of each budget, minor units, rounded down."""
        totals = (math.floor(b * self.minor_per_unit + _SLACK) for b in self.budgets)
        return dict(zip(self.budget_names, totals, strict=True))

    def to_minor(self, cost: NDArray[np.floating]) -> NDArray[np.int64]:
        """Amounts to reserve for expected costs: minor units, rounded up, so never too little.

        Args:
            cost: currency units, any shape, >= 0; what is not finite becomes `MAX_MINOR`.
        """
        exact = np.ceil(np.asarray(cost, dtype=np.float64) * self.minor_per_unit - _SLACK)
        bounded = np.where(np.isfinite(exact), np.clip(exact, 0, MAX_MINOR), MAX_MINOR)
        return bounded.astype(np.int64)


def _instant(name: str, text: str, missing: float) -> float:
    if not text:
        return missing
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{name} must be an ISO 8601 time; got {text!r}") from error
    if at.tzinfo is None:
        raise ConfigError(f"{name} must have a UTC offset; got {text!r}")
    return at.timestamp()
