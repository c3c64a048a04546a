"""From requests and the state of the accounts to offers, with the reasons; no side effects."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.decisions.bundle import DecisionBundle
from promo_ray.decisions.choice import Flags, Floats, Ints, greedy_slots, sample
from promo_ray.decisions.decision import Reason
from promo_ray.decisions.ledger import Room
from promo_ray.seeding import uniforms

Keys = NDArray[np.uint64]


class Plan(NamedTuple):
    """What n requests get if the ledger agrees; a slot of -1 is no offer.

    Attributes:
        slot: `(n,)` int64 offer.
        greedy: `(n,)` int64 offer without exploration.
        eligible: `(n, m)` bool, offers that the draw could give.
        propensity: `(n,)` float64 probability of the slot.
        amounts: `(n, k)` int64 minor units to hold; 0 without an offer.
        rows: `(n,)` int64 row in the bundle, -1 = no personal data used.
        is_holdout: `(n,)` bool.
        is_explored: `(n,)` bool, the slot was drawn at random.
        reasons: codes of each request, the deciding one last.
    """

    slot: Ints
    greedy: Ints
    eligible: Flags
    propensity: Floats
    amounts: Ints
    rows: Ints
    is_holdout: Flags
    is_explored: Flags
    reasons: list[list[Reason]]


class _Facts(NamedTuple):
    """What the reasons of n requests rest on, as plain lists."""

    is_holdout: list[bool]
    has_consent: list[bool]
    is_personal: list[bool]
    is_capped: list[bool]
    is_short: list[bool]  # an offer was possible but for the budget, and none is left
    is_explored: list[bool]
    is_planned: list[bool]
    planned: list[int]
    slot: list[int]

    @classmethod
    def of(cls, *arrays: NDArray[Any]) -> _Facts:
        return cls(*(array.tolist() for array in arrays))


class Planner:
    """Chooses for many requests at once from one bundle."""

    def __init__(self, bundle: DecisionBundle) -> None:
        policy = bundle.policy
        self.bundle = bundle
        self._prices = np.asarray(policy.prices, dtype=np.float64)
        self._window_s = policy.window_s
        self._has_fallback = policy.fallback_slot >= 0
        zero = (0.0,) * len(policy.budgets)
        self._fallback_amounts = policy.to_minor(np.asarray(policy.fallback_cost or zero))

    def is_holdout(self, keys: Keys) -> Flags:
        """Whether users (by key) never get an offer: a keyed hash below the holdout rate."""
        policy = self.bundle.policy
        if policy.holdout_rate == 0:
            return np.zeros(len(keys), dtype=np.bool_)
        uniform = uniforms(policy.seed, f"holdout/{policy.holdout_salt}", keys)[:, 0]
        return np.asarray(uniform < policy.holdout_rate)

    def draw(self, decision_keys: Keys) -> Floats:
        """Number in (0, 1] that decides the exploration of each decision.

        Args:
            decision_keys: `(n,)` uint64 from `seeding.keys_of` of the decision ids.
        """
        if self.bundle.policy.epsilon == 0:
            return np.ones(len(decision_keys))  # never below epsilon
        return uniforms(self.bundle.policy.seed, "explore", decision_keys)[:, 0]

    def plan(
        self, keys: Keys, consent: Flags, room: Room, decision_keys: Keys, now_s: float
    ) -> Plan:
        """Choose an offer for each request.

        Args:
            keys: `(n,)` uint64 keys of users.
            consent: `(n,)` bool, personal data may be used.
            room: state of the accounts for these users.
            decision_keys: `(n,)` uint64 keys of the decisions.
            now_s: seconds since 1970.
        """
        policy = self.bundle.policy
        is_holdout = self.is_holdout(keys)
        rows = np.where(consent & ~room.is_erased, self.bundle.rows_of(keys), -1)
        profiles = self.bundle.profiles(rows)
        costs = policy.to_minor(profiles.cost)
        left = np.array([room.left[name] for name in policy.budget_names], dtype=np.int64)
        is_capped = (room.uses >= policy.max_uses) & (policy.max_uses > 0)
        stop = self._stop_reason(room, now_s)
        may = ~is_holdout & ~is_capped & (stop is None)
        possible = np.isfinite(profiles.value) & may[:, None]
        eligible = possible & (costs <= left[:, None]).all(axis=1)
        greedy = greedy_slots(
            profiles.value, profiles.cost, self._prices, profiles.choice, eligible,
            is_plan_binding=policy.is_plan_binding,
        )  # fmt: skip
        sampled = sample(greedy.slot, eligible, self.draw(decision_keys), policy.epsilon)
        is_personal = rows >= 0
        wants_fallback = ~is_personal & may & self._has_fallback
        fallback_fits = bool((self._fallback_amounts <= left).all())
        slot = np.where(wants_fallback & fallback_fits, policy.fallback_slot, sampled.slot)
        is_explored = sampled.is_explored & is_personal & may
        wanted_some = np.where(is_personal, possible.any(axis=1), wants_fallback)
        is_short = wanted_some & (slot < 0) & ~eligible.any(axis=1)
        facts = _Facts.of(
            is_holdout, consent, is_personal, is_capped, is_short, is_explored,
            greedy.is_planned, profiles.choice, slot,
        )  # fmt: skip
        return Plan(
            slot=slot,
            greedy=greedy.slot,
            eligible=eligible,
            propensity=sampled.propensity,
            amounts=self._amounts(costs, slot, is_personal),
            rows=rows,
            is_holdout=is_holdout,
            is_explored=is_explored,
            reasons=[self._why(facts, i, stop) for i in range(len(slot))],
        )

    def _amounts(self, costs: Ints, slot: Ints, is_personal: Flags) -> Ints:
        amounts = np.zeros(costs.shape[:2], dtype=np.int64)
        own = np.flatnonzero((slot >= 0) & is_personal)
        amounts[own] = costs[own, :, slot[own]]
        amounts[(slot >= 0) & ~is_personal] = self._fallback_amounts
        return amounts

    def _stop_reason(self, room: Room, now_s: float) -> Reason | None:
        """Why nobody gets an offer now, if so."""
        if room.is_paused:
            return Reason.CAMPAIGN_PAUSED
        if not self._window_s[0] <= now_s < self._window_s[1]:
            return Reason.NOT_RUNNING
        return None

    def _why(self, facts: _Facts, i: int, stop: Reason | None) -> list[Reason]:
        if facts.is_holdout[i]:
            return [Reason.HOLDOUT]
        if stop is not None:
            return [stop]
        if facts.is_capped[i]:
            return [Reason.CAP_REACHED]
        if not facts.is_personal[i]:
            why = [Reason.UNKNOWN_USER if facts.has_consent[i] else Reason.NO_CONSENT]
            if facts.slot[i] >= 0:
                return [*why, Reason.FALLBACK]
            return [*why, Reason.BUDGET_EXHAUSTED] if facts.is_short[i] else why
        if facts.is_explored[i]:
            return [Reason.EXPLORED]
        if facts.is_planned[i]:
            return [Reason.PLANNED]
        if facts.planned[i] < 0 and self.bundle.policy.is_plan_binding:
            return [Reason.NOT_PLANNED]
        if facts.is_short[i]:
            return [Reason.BUDGET_EXHAUSTED]
        why = [Reason.PLAN_UNAVAILABLE] if facts.planned[i] >= 0 else []
        return [*why, Reason.BEST_VALUE if facts.slot[i] >= 0 else Reason.NO_GAIN]
