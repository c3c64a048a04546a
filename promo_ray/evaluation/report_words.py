"""Numbers and verdicts in words that a merchant reads; no markup."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

DASH = "–"
WITHHELD = "Withheld"  # label of a verdict that no figure may stand beside
_GAP = "\u00a0"  # no line break between a number and its sign

_SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥", "CNY": "CN¥", "INR": "₹"}

# what a check is about, for readers who never saw one
_CHECKS = {
    "randomized": (
        "Chance decided",
        "Only if chance decided who got an offer can a difference be laid to the offer.",
    ),
    "sample_ratio": (
        "Group sizes",
        "Every group must hold as many users as its plan said. If not, users "
        "were lost on the way and the groups cannot be compared.",
    ),
    "overlap": (
        "Fair chances",
        "Every user must have had a real chance of what they got; else a handful of users would "
        "decide the result.",
    ),
    "effective_sample": (
        "Enough evidence",
        "Enough users must have received, by chance, what this plan would give them.",
    ),
    "tried_offers": (
        "Offers tried before",
        "What an offer does is known for sure only after it was tried; for others it is predicted "
        "from their terms.",
    ),
    "spend": (
        "Spend as planned",
        "What the plan costs by the users of the past campaign must not lie above the budget for "
        "sure; the ledger holds the budget when offers are given.",
    ),
}
# without these nobody can say what a plan earns, whatever the estimate is
_NEEDED = ("randomized", "sample_ratio", "overlap", "effective_sample")

# policies of the evaluation in plain words
POLICIES = {
    "policy": "This plan",
    "best_single_to_all": "Best single offer to everyone",
    "best_single_in_budget": "Best single offer, same budget",
    "response_targeting": "Best single offer to the best buyers",
}


def number(value: Any) -> float | None:
    """The value as a finite float, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def count(value: Any) -> str:
    """Whole number with thousands separators."""
    known = number(value)
    return DASH if known is None else f"{known:,.0f}"


def users(value: Any, k: int) -> str:
    """Count of users; groups of fewer than `k` are not told apart."""
    known = number(value)
    return f"fewer than {k}" if known is not None and 0 < known < k else count(value)


def decimal(value: Any, digits: int = 2) -> str:
    """Number with a fixed number of decimals."""
    known = number(value)
    return DASH if known is None else f"{known:,.{digits}f}".replace("-", "−")


def percent(value: Any, digits: int = 0) -> str:
    """Share in [0, 1] as percent."""
    known = number(value)
    if known is None:
        return DASH
    least = 0.1**digits
    if 0 < 100 * known < least / 2:
        return f"<{least:.{digits}f}{_GAP}%"
    return f"{100 * known:,.{digits}f}{_GAP}%".replace("-", "−")


@dataclass(frozen=True)
class Unit:
    """Unit of the outcome: an ISO currency code means money, else a plural such as `visits`.

    Attributes:
        name: code or plural.
        scale: users that figures per user are shown for, 1 or 100.
    """

    name: str
    scale: int = 1

    @property
    def is_money(self) -> bool:
        """Whether the outcome is money."""
        return len(self.name) == 3 and self.name.isupper()

    @property
    def per(self) -> str:
        """`per user` or `per 100 users`."""
        return "per user" if self.scale == 1 else f"per {self.scale} users"

    @property
    def axis(self) -> str:
        """Label of an axis of figures per user."""
        return f"{self.name} {self.per}"

    def one_user(self, value: Any) -> str:
        """An amount per user, at the scale of the unit."""
        known = number(value)
        return DASH if known is None else self.total(known * self.scale)

    def span(self, low: Any, high: Any) -> str:
        """Ends of an interval per user; the name of the unit is said once."""
        least, most = self.one_user(low), self.one_user(high)
        return f"{least.removesuffix(f' {self.name}')} to {most}"

    def total(self, value: Any) -> str:
        """An amount as it is."""
        known = number(value)
        if known is None:
            return DASH
        sign, size = "−" if known < 0 else "", abs(known)
        digits = 0 if size >= 1000 or size == 0 else 2 if size >= 0.05 else _two_digits(size)
        text = f"{size:,.{digits}f}"
        if not self.is_money:
            return f"{sign}{text} {self.name}"
        symbol = _SYMBOLS.get(self.name)
        return f"{sign}{symbol}{text}" if symbol else f"{sign}{text} {self.name}"


def _two_digits(size: float) -> int:
    return min(8, max(2, 1 - math.floor(math.log10(size))))


def unit_of(estimates: Mapping[str, Any] | None, currency: str) -> Unit:
    """Unit of estimates; small counts are told per 100 users, since nobody makes 0.04 visits."""
    unit = Unit(str((estimates or {}).get("unit") or currency))
    gains = [abs(g.value) for g in gains_of(estimates).values()]
    is_small = not unit.is_money and bool(gains) and max(gains) < 0.5
    return Unit(unit.name, 100) if is_small else unit


class Verdict(NamedTuple):
    """The answer in one sentence.

    Attributes:
        status: `proven`, `partly`, `unproven`, `loss` or `unknown`.
        label: the status in two words.
        sentence: gain per user and in all, with intervals, and against what.
        reasons: further sentences, for example failed checks.
    """

    status: str
    label: str
    sentence: str
    reasons: tuple[str, ...] = ()


class Interval(NamedTuple):
    """An estimate with the ends of its interval."""

    value: float
    low: float
    high: float


def interval_of(estimate: Any) -> Interval | None:
    """Interval of `{value or mean, low, high}` or of a list of the three; None if not known."""
    if isinstance(estimate, Mapping):
        names = ("value" if "value" in estimate else "mean", "low", "high")
        estimate = [estimate.get(name) for name in names]
    if not isinstance(estimate, Sequence) or isinstance(estimate, str) or len(estimate) < 3:
        return None
    value, low, high = (number(v) for v in estimate[:3])
    if value is None or low is None or high is None:
        return None
    return Interval(value, low, high)


def gains_of(estimates: Mapping[str, Any] | None) -> dict[str, Interval]:
    """Gain per user of each policy against no offers."""
    policies = (estimates or {}).get("policies") or {}
    found = {name: interval_of(own.get("against_none")) for name, own in policies.items()}
    return {name: interval for name, interval in found.items() if interval is not None}


def withheld_of(estimates: Mapping[str, Any] | None) -> str:
    """Why the gain of the plan has no interval; empty if it has one or was not estimated."""
    policy = ((estimates or {}).get("policies") or {}).get("policy") or {}
    reason = str((policy.get("against_none") or {}).get("withheld") or "")
    return reason[:1].upper() + reason[1:]


def failed_checks(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names, in plain words, of the checks that did not pass."""
    return [check_words(str(c.get("name")))[0] for c in checks if not c.get("passed")]


def check_words(name: str) -> tuple[str, str]:
    """Title and meaning of a check."""
    return _CHECKS.get(name, (name.replace("_", " ").capitalize(), ""))


def broken_words(name: str, detail: str) -> str:
    """Why a check that failed forbids a verdict, for a merchant."""
    title, meaning = check_words(name)
    return f"{title}: {detail.rstrip('.')}. {meaning}".rstrip()


def verdict(
    estimates: Mapping[str, Any] | None,
    checks: Sequence[Mapping[str, Any]] | None,
    currency: str,
    why_missing: str,
) -> Verdict:
    """The verdict from intervals and checks.

    A gain is proven if its interval lies above zero and every check passed.
    """
    main = gains_of(estimates).get("policy")
    withheld = withheld_of(estimates)
    if withheld:
        text = "The verdict is withheld: the log does not say what this plan earns."
        return Verdict("unproven", WITHHELD, text, (f"{withheld}.", *_reasons(checks)))
    if not estimates or main is None:
        text = f"Nobody knows yet what this plan earns: {why_missing}."
        return Verdict("unknown", "Not evaluated", text)
    unit = unit_of(estimates, currency)
    gain = f"{'earns' if unit.is_money else 'brings'} {_gain_words(main, estimates, unit)}"
    reasons = _reasons(checks)
    broken = [c for c in checks or () if not c.get("passed") and c.get("name") in _NEEDED]
    if broken:
        text = "The verdict is withheld: the evidence failed a check that it rests on."
        why = [broken_words(str(c["name"]), str(c.get("detail") or "failed")) for c in broken]
        others = [c for c in checks or () if c not in broken]
        return Verdict("unproven", WITHHELD, text, (*why, *_reasons(others)))
    if main.high < 0:
        return Verdict("loss", "Loses", f"This plan {gain}.", reasons)
    if main.low <= 0:
        reasons += ("The interval includes no gain at all.",)
    if reasons:
        text = f"Not proven: the estimate is that this plan {gain}."
        return Verdict("unproven", "Not proven", text, reasons)
    other, rival = rival_of(estimates)
    if other is None:
        note = "A comparison with one offer for everyone was not run."
        return Verdict("partly", "Proven against no offers", f"This plan {gain}.", (note,))
    ends = unit.span(other.low, other.high)
    versus = f"{_more(other.value, unit)} than {rival} ({ends})"
    text = f"This plan {gain}; and {versus}."
    if other.low > 0:
        return Verdict("proven", "Proven", text)
    note = f"Against {rival} the difference is not proven."
    if other.high < 0:
        note = f"A simpler plan is better: {rival}."
    return Verdict("partly", "Proven against no offers", text, (note,))


def rival_of(estimates: Mapping[str, Any]) -> tuple[Interval | None, str]:
    """Gain over the best single offer and its name: within the same budget if that was judged.

    To everyone the single offer may cost several times the budget, so it is no like for like.
    """
    own = estimates["policies"]["policy"]
    within = interval_of(own.get("against_best_single_in_budget"))
    if within is not None:
        return within, "the best single offer within the same budget"
    return (
        interval_of(own.get("against_best_single_to_all")),
        "the best single offer sent to everyone",
    )


def _more(value: float, unit: Unit) -> str:
    return f"{unit.one_user(abs(value))} {'less' if value < 0 else 'more'} {unit.per}"


def _gain_words(main: Interval, estimates: Mapping[str, Any], unit: Unit) -> str:
    ends = unit.span(main.low, main.high)
    level = number(estimates.get("level"))
    interval = f"{percent(level)} interval" if level else "interval"
    text = f"{_more(main.value, unit)} than no offers ({interval} {ends})"
    n = number(estimates.get("n_users"))
    if n is None:
        return text
    return f"{text}, {unit.total(main.value * n)} in all over {count(n)} users"


def _reasons(checks: Sequence[Mapping[str, Any]] | None) -> tuple[str, ...]:
    if not checks:
        return ("The evidence was not checked.",)
    failed = failed_checks(checks)
    return (f"Failed checks: {', '.join(failed)}.",) if failed else ()
