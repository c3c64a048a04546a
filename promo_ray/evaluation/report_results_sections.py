"""Sections of the report of results: one function per kind of result."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from promo_ray.evaluation import report_charts as charts
from promo_ray.evaluation.ab import AbTest
from promo_ray.evaluation.ab_segments import SegmentEffects
from promo_ray.evaluation.ab_sequential import SequentialTest
from promo_ray.evaluation.ab_windows import EffectsOverTime
from promo_ray.evaluation.calibration import Calibration
from promo_ray.evaluation.curves import Curve, CurveEstimate
from promo_ray.evaluation.policy_value import PolicyEstimate
from promo_ray.evaluation.report_charts import Dot, Drawing
from promo_ray.evaluation.report_evidence import slope_words
from promo_ray.evaluation.report_sections import Section, Table
from promo_ray.evaluation.report_words import DASH, Unit, count, decimal, percent
from promo_ray.evaluation.safe_release import Release
from promo_ray.evaluation.spend_curve import GainCurve

MIN_SHOWN = 20  # users; smaller segments are not told apart


class _Ends(Protocol):
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


class Names(NamedTuple):
    """Unit of the outcome, and names of the arms as far as they are given."""

    unit: Unit
    arms: tuple[str, ...]

    def arm(self, number: int) -> str:
        """Name of an arm."""
        return self.arms[number] if number < len(self.arms) else f"arm {number}"


class Lift(NamedTuple):
    """Difference of one arm to control, or of one policy to another."""

    label: str
    value: float
    low: float
    high: float
    verdict: str

    def words(self, names: Names) -> str:
        """`Push brings 2.1 visits more per 100 users than control (1.2 to 3.0)`."""
        unit = names.unit
        more = "less" if self.value < 0 else "more"
        verb = "earns" if unit.is_money else "brings"
        return (
            f"{self.label[:1].upper()}{self.label[1:]} {verb} {unit.one_user(abs(self.value))} "
            f"{more} {unit.per} than {names.arm(0)} ({ends(self, unit)})"
        )


def ends(estimate: _Ends, unit: Unit) -> str:
    """`1.20 to 3.40`; what is not bounded is said."""
    if not math.isfinite(estimate.low):
        return "no interval"
    if not math.isfinite(estimate.high):
        return f"at least {unit.one_user(estimate.low)}"
    return unit.span(estimate.low, estimate.high)


def gain_words(estimate: PolicyEstimate, names: Names) -> str:
    """`$1.20 per user (0.80 to 1.60)`."""
    unit = names.unit
    return f"{unit.one_user(estimate.value)} {unit.per} ({ends(estimate, unit)})"


def levels(result: object) -> list[float]:
    """Sizes that tell whether counts are better told per 100 users."""
    found: list[float] = []
    if isinstance(result, AbTest):
        found = [arm.mean for arm in result.arms]
    elif isinstance(result, SequentialTest):
        found = [float(v) for v in result.effect[-1:].ravel()]
    elif isinstance(result, PolicyEstimate):
        found = [result.value]
    elif isinstance(result, Release):
        found = [result.gain.value]
    elif isinstance(result, CurveEstimate):
        found = [result.value]
    return [v for v in found if math.isfinite(v)]


def lifts_of(test: AbTest, names: Names) -> tuple[Lift, ...]:
    """Differences of the treated arms to control."""
    return tuple(
        Lift(names.arm(a.arm), a.effect, a.effect_low, a.effect_high, a.verdict)
        for a in test.arms[1:]
    )


def looked_lifts(test: SequentialTest, names: Names) -> tuple[Lift, ...]:
    """Differences at the stop of each arm, or at the last look."""
    found = []
    for j, verdict in enumerate(test.verdicts):
        at = int(test.stopped_at[j]) if test.stopped_at[j] >= 0 else -1
        value, low, high = (float(v[at, j]) for v in (test.effect, test.low, test.high))
        found.append(Lift(names.arm(j + 1), value, low, high, verdict))
    return tuple(found)


def ab_section(key: str, title: str, test: AbTest, names: Names) -> Section:
    """Arms side by side and their differences to control."""
    unit = names.unit
    rows = [
        [
            names.arm(a.arm), count(a.n), unit.one_user(a.mean),
            *([DASH] * 5 if a.arm == 0 else [
                unit.one_user(a.effect),
                unit.span(a.effect_low, a.effect_high),
                percent(a.relative, 1), _p(a.p_adjusted), percent(a.variance_cut, 1),
            ]),
            "" if a.arm == 0 else a.verdict,
        ]
        for a in test.arms
    ]  # fmt: skip
    columns = [
        "Arm", "Users", f"Found {unit.per}", "Difference", "Interval", "Relative", "p, adjusted",
        "Variance cut", "Verdict",
    ]  # fmt: skip
    text = [
        f"Estimator: {test.estimator}. A whisker that crosses zero shows no difference. The "
        "variance cut is what covariates took off the error, measured on these rows."
    ]
    table = Table(f"{title}, {unit.axis}", columns, rows)
    return Section(key, title, text, [_whiskers(lifts_of(test, names), unit), table])


def sequential_section(key: str, title: str, test: SequentialTest, names: Names) -> Section:
    """The difference look by look, with intervals that hold together."""
    unit = names.unit
    rows = [
        {"series": names.arm(j + 1), "x": float(n), "y": float(test.effect[k, j]),
         "low": float(test.low[k, j]), "high": float(test.high[k, j])}
        for k, n in enumerate(test.n.tolist())
        for j in range(test.effect.shape[1])
        if math.isfinite(test.low[k, j])
    ]  # fmt: skip
    drawing = charts.lines(
        rows, x="users so far", y=f"difference, {unit.axis}", scale=unit.scale,
        alt="Difference to control look by look; the band holds at all looks together.",
    )  # fmt: skip
    told = []
    for j, lift in enumerate(looked_lifts(test, names)):
        at = int(test.stopped_at[j])
        stop = f"look {at + 1} ({count(int(test.n[at]))} users)" if at >= 0 else "no stop"
        ends_ = ends(lift, unit)
        told.append([lift.label, unit.one_user(lift.value), ends_, _p(test.p_value[j]), stop,
                     lift.verdict])  # fmt: skip
    columns = ["Arm", "Difference", "Interval", "p", "Stopped at", "Verdict"]
    text = [
        f"Looked at {len(test.n)} times by {test.method.replace('_', ' ')}: all looks together "
        f"alarm falsely with a chance of at most {percent(1 - test.level)}."
    ]
    table = Table(f"{title}, {unit.axis}", columns, told)
    return Section(key, title, text, [drawing, table] if drawing else [table])


def segments_section(key: str, title: str, found: SegmentEffects, names: Names) -> Section:
    """Effects by segment, and whether they differ at all."""
    unit, rows, lifts = names.unit, [], []
    for s, (segment, test) in enumerate(zip(found.segments, found.tests, strict=True)):
        for lift, arm, p in zip(
            lifts_of(test, names), test.arms[1:], found.p_adjusted[s], strict=True
        ):
            n = arm.n + test.arms[0].n
            label = segment if len(test.arms) == 2 else f"{segment}, {lift.label}"
            if n < MIN_SHOWN:
                rows.append([label, f"fewer than {MIN_SHOWN}", *["hidden"] * 3, ""])
                continue
            rows.append([label, count(n), unit.one_user(lift.value), ends(lift, unit), _p(p),
                         lift.verdict])  # fmt: skip
            lifts.append(lift._replace(label=label))
    p_values = ", ".join(
        f"{_p(p)} ({names.arm(j + 1)})" for j, p in enumerate(found.heterogeneity_p.tolist())
    )
    text = [
        "Segments were known before the trial; p-values are adjusted over all of them. That all "
        f"segments have one effect has a p-value of {p_values}: only if it is small, differences "
        "between segments are a finding."
    ]
    columns = ["Segment", "Users", "Difference", "Interval", "p, adjusted", "Verdict"]
    table = Table(f"{title}, {unit.axis}", columns, rows)
    return Section(key, title, text, [_whiskers(lifts, unit), table] if lifts else [table])


def windows_section(key: str, title: str, found: EffectsOverTime, names: Names) -> Section:
    """Effects by window after the exposure, net of what was pulled forward."""
    unit, rows = names.unit, []
    for days, test, share in zip(found.windows, found.effects, found.mature_share, strict=True):
        rows += [
            [f"{days:g} days, {lift.label}", percent(share), unit.one_user(lift.value),
             ends(lift, unit), lift.verdict]
            for lift in lifts_of(test, names)
        ]  # fmt: skip
    rows += [
        [f"after {found.windows[0]:g} days, {lift.label}", percent(found.mature_share[-1]),
         unit.one_user(lift.value), ends(lift, unit), lift.verdict]
        for lift in lifts_of(found.later, names)
    ]  # fmt: skip
    kept = ", ".join(percent(v) for v in found.kept_share)
    text = [
        "Sales within a window after each user's own exposure, returns taken off; only users "
        "whose window is over count. What comes later is negative where sales were only pulled "
        f"forward: the longest window keeps {kept} of the effect of the shortest."
    ]
    columns = ["Window", "Users that count", "Difference", "Interval", "Verdict"]
    return Section(key, title, text, [Table(f"{title}, {unit.axis}", columns, rows)])


def policy_section(key: str, title: str, found: PolicyEstimate, names: Names) -> Section:
    """What a policy is worth by a log."""
    if found.withheld:
        return Section(key, title, missing=found.withheld)
    unit = names.unit
    rows = [
        ["Estimate", unit.one_user(found.value)],
        [f"Interval, {percent(found.level)}, {found.interval}", ends(found, unit)],
        *([["Standard error", unit.one_user(found.se)]] if math.isfinite(found.se) else []),
        ["Users", count(found.n_users)],
        ["Rows of the log", count(found.n)],
        ["Effective sample size", count(found.ess)],
        ["Largest weight", decimal(found.max_weight)],
        ["Estimator", found.method],
    ]
    text = ["Estimated from a log of what was done, with the chances that it was done."]
    table = Table(f"{title}, {unit.axis}", ["", ""], rows, 2)
    dot = Lift(title, found.value, found.low, found.high, "")
    return Section(key, title, text, [_whiskers([dot], unit, "estimate"), table])


def release_section(key: str, title: str, found: Release, names: Names) -> Section:
    """The gate and the gain that it looked at."""
    own = policy_section(key, title, found.gain, names)
    return own._replace(text=[f"{found.reason[:1].upper()}{found.reason[1:]}.", *own.text])


def curve_section(key: str, title: str, found: Curve, names: Names) -> Section:
    """A Qini curve and the straight line to its end."""
    unit, last = names.unit, float(found.y[-1])
    step = max(1, len(found.x) // 200)
    at = sorted({*range(0, len(found.x), step), len(found.x) - 1})
    rows: list[dict[str, Any]] = [
        {"series": "by score", "x": 100 * float(found.x[i]), "y": float(found.y[i])} for i in at
    ]
    rows += [{"series": "by lot", "x": 100.0 * i, "y": last * i} for i in (0, 1)]
    drawing = charts.lines(
        rows, x="% of users treated, highest score first", y=f"gain, {unit.axis}",
        scale=unit.scale, alt="Gain by share of users treated, by score and by lot.",
    )  # fmt: skip
    text = [
        "If the score ranks users well, its line rises steeply and lies above the straight one."
    ]
    return Section(key, title, text, [drawing] if drawing else [])


def measure_section(key: str, title: str, found: CurveEstimate, names: Names) -> Section:
    """Qini or uplift at a share."""
    unit = names.unit
    rows = [["Estimate", unit.one_user(found.value)], ["Interval", ends(found, unit)]]
    rows.append(["Standard error", unit.one_user(found.se)])
    return Section(key, title, (), [Table(f"{title}, {unit.axis}", ["", ""], rows)])


def gain_section(key: str, title: str, found: GainCurve, names: Names) -> Section:
    """Gain over spend."""
    unit = names.unit
    columns = (found.spend, found.gain, found.low, found.high)
    rows = [
        {"series": "best order", "x": x, "y": y, "low": low, "high": high}
        for x, y, low, high in zip(*(c.tolist() for c in columns), strict=True)
    ]
    drawing = charts.lines(
        rows, x="spend per user", y=f"gain, {unit.axis}", scale=unit.scale,
        alt="Gain by spend per user in the best order, with pointwise intervals.",
    )  # fmt: skip
    text = ["What each size of budget earns if spent in the best order; where it gets flat, more "
            "budget earns nothing."]  # fmt: skip
    return Section(key, title, text, [drawing] if drawing else [])


def calibration_section(key: str, title: str, found: Calibration, names: Names) -> Section:
    """Predicted and observed effects by quantile of the prediction."""
    columns = (found.predicted, found.observed, found.low, found.high)
    rows = [
        {"series": "effect", "x": x, "y": y, "low": low, "high": high}
        for x, y, low, high in zip(*(c.tolist() for c in columns), strict=True)
    ]
    alt = "Observed against predicted effect; points on the dashed line are right."
    drawing = charts.calibration(rows, names.unit, alt)
    text = [slope_words(found.slope, found.slope_se)]
    return Section(key, title, text, [drawing] if drawing else [])


def _whiskers(lifts: Sequence[Lift], unit: Unit, what: str = "difference") -> Drawing:
    dots = [
        Dot(v.label, v.value, v.low, v.high, is_own=True)
        if math.isfinite(v.low) and math.isfinite(v.high)
        else Dot(v.label, v.value)
        for v in lifts
        if math.isfinite(v.value)
    ]
    return charts.dots_and_whiskers(dots, unit, what=what)


def _p(value: float) -> str:
    return DASH if not math.isfinite(value) else "< 0.0001" if value < 1e-4 else f"{value:.4f}"
