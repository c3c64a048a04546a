"""Section of the report on lifecycle plans: whom, with what, how it is measured, what is kept."""

from __future__ import annotations

from collections.abc import Sequence

from promo_ray.evaluation.report_sections import Row, Section, Table
from promo_ray.evaluation.report_words import (
    DASH,
    Unit,
    decimal,
    interval_of,
    number,
    users,
)

_METRICS = {
    "is_conversion": "users who order",
    "is_visit": "users who visit",
    "revenue": "revenue",
    "margin": "margin",
}


def plans(documents: Sequence[Row], left_out: Sequence[Row], k: int) -> Section:
    """Plans, their offers and their guardrails; small groups of users hidden."""
    text = [
        "Each plan has an audience, a menu of its own, and users who get nothing so that its "
        "effect can be measured. Gains are what the models expect of a user of the audience who "
        "is not held out, over as many days as the past campaign was watched; the smallest effect "
        "found is what the held-out users can prove. Plans take users in the order named: a user "
        "whom one has, held out or not, is in no later one.",
    ]
    text += [
        f"{_words(own['plan'])}: {users(n, k)} more users whom its rules hold for are in a plan "
        "named before it."
        for own in documents
        if (n := own.get("n_in_earlier_plans", 0))
    ]
    text += [
        f"{_words(own['plan'])}: the effect that is expected is too small to be proven by its "
        "held-out users; hold out more, or measure it for longer."
        for own in documents
        if _is_too_small(own)
    ]
    text += [f"{_words(row['plan'])} was left out: {row['why']}." for row in left_out]
    blocks = [
        Table("Plans", _HEAD, [_plan(own, k) for own in documents], 2),
        Table(
            "Offers of the plans",
            ["Plan", "What the customer gets", "Tried before", "Users"],
            [row for own in documents for row in _offers(own, k)],
            3,
        ),
        Table(
            "Guardrails",
            ["Plan", "Kept by promo_ray", "For people to see to"],
            [
                [
                    _words(own["plan"]),
                    "; ".join(own["guardrails"]["enforced"]),
                    "; ".join(own["guardrails"]["for_people"]) or DASH,
                ]
                for own in documents
            ],
            3,
        ),
    ]
    return Section("plans", "Lifecycle plans", text, blocks if documents else [])


_HEAD = (
    "Plan",
    "Goal",
    "Audience",
    "Held out",
    "Expected gain per user",
    "Interval",
    "Smallest effect found",
)


def _plan(own: Row, k: int) -> list[str]:
    unit, measured = Unit(str(own["unit"])), own["measurement"]
    gain = interval_of(own["gain_per_user"])
    ends = f"{unit.total(gain.low)} to {unit.total(gain.high)}" if gain else DASH
    return [
        _words(own["plan"]),
        str(own["goal"]),
        users(own["n_audience"], k),
        users(measured["n_holdout"], k),
        unit.total(gain.value) if gain else DASH,
        ends,
        _detectable(own),
    ]


def _detectable(own: Row) -> str:
    metric, least = str(own["metric"]), number(own["measurement"]["detectable"])
    if metric.startswith("is_"):
        return f"{decimal(100 * (least or 0.0), 1)} points of {_METRICS[metric]}"
    return f"{Unit(str(own['currency'])).total(least)} {_METRICS[metric]} a user"


def _is_too_small(own: Row) -> bool:
    """Whether the expected effect on the very outcome that is measured could not be found."""
    gain = interval_of(own["gain_per_user"])
    least = number(own["measurement"]["detectable"])
    is_same = own["metric"] == own["designed_for"]
    return is_same and gain is not None and least is not None and gain.value < least


def _offers(own: Row, k: int) -> list[list[str]]:
    cells = zip(own["offers"], own["is_tried"], own["is_supported"], own["n_of_offer"], strict=True)
    plan = _words(own["plan"])
    rows = [
        [plan, words, "yes" if tried else "near it" if near else "no: a guess", users(n, k)]
        for words, tried, near, n in cells
    ]
    nothing = users(own["n_without_offer"], k)
    return [*rows, [plan, "no offer: none is worth its cost within the budget", DASH, nothing]]


def _words(name: str) -> str:
    text = str(name).replace("_", " ")
    return text[:1].upper() + text[1:]
