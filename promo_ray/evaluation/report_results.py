"""The report of any results: A/B tests, estimates from logs, curves and checks, without a campaign.

`report` takes results by name, in the order in which they are told, and gives the same kind of
page as a campaign's. The verdict is that of the first result that can give one. If that result
withholds it, or a check given beside it failed, the page says why instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from promo_ray.errors import DataError
from promo_ray.evaluation import report_results_sections as told
from promo_ray.evaluation.ab import AbTest
from promo_ray.evaluation.ab_segments import SegmentEffects
from promo_ray.evaluation.ab_sequential import SequentialTest
from promo_ray.evaluation.ab_windows import EffectsOverTime
from promo_ray.evaluation.calibration import Calibration
from promo_ray.evaluation.checks import Check
from promo_ray.evaluation.curves import Curve, CurveEstimate
from promo_ray.evaluation.policy_value import PolicyEstimate
from promo_ray.evaluation.report import render_page
from promo_ray.evaluation.report_evidence import checks as checks_section
from promo_ray.evaluation.report_results_sections import Lift, Names
from promo_ray.evaluation.report_sections import Section
from promo_ray.evaluation.report_words import WITHHELD, Unit, Verdict, broken_words, count, percent
from promo_ray.evaluation.safe_release import Release
from promo_ray.evaluation.spend_curve import GainCurve

Result = (
    AbTest
    | SequentialTest
    | SegmentEffects
    | EffectsOverTime
    | PolicyEstimate
    | Release
    | Curve
    | CurveEstimate
    | GainCurve
    | Calibration
    | Check
)

_SECTIONS: Mapping[type, Callable[..., Section]] = {
    AbTest: told.ab_section,
    SequentialTest: told.sequential_section,
    SegmentEffects: told.segments_section,
    EffectsOverTime: told.windows_section,
    PolicyEstimate: told.policy_section,
    Release: told.release_section,
    Curve: told.curve_section,
    CurveEstimate: told.measure_section,
    GainCurve: told.gain_section,
    Calibration: told.calibration_section,
}


class _Facts(NamedTuple):
    """What the verdict of a page rests on."""

    n: int = 0
    ess: float = 0.0
    estimator: str = ""
    interval: str = ""
    withheld: str = ""
    lifts: tuple[Lift, ...] = ()
    label: str = ""  # of a result with a verdict of its own words
    sentence: str = ""
    checks: tuple[Check, ...] = ()


def report(
    results: Mapping[str, Result],
    *,
    title: str = "Report",
    unit: str = "USD",
    design: str = "",
    arms: Sequence[str] = ("control",),
    checks: Sequence[Check] = (),
) -> str:
    """One self-contained HTML page on results; the verdict stands on the first screen.

    Args:
        results: results by name, the main one first: what `ab_test`, `sequential_test`,
            `effects_by_segment`, `effects_over_time`, `policy_value`, `compare_policies`,
            `release_gate`, `qini_curve`, `qini`, `uplift_at`, `gain_curve`, `calibration` and
            `sample_ratio` return.
        title: heading of the page.
        unit: of the outcome per user: a currency code, or a plural such as `visits`. Small counts
            are told per 100 users.
        design: how users came to their arms, in a few words; the page says so where it is not
            told.
        arms: names of the arms, control first; the others get their numbers.
        checks: further checks; one that failed withholds the verdict.

    Returns:
        HTML text; the same results give the same bytes.

    Raises:
        DataError: no mapping, no result, or one that the report does not know.
    """
    if not isinstance(results, Mapping):
        kind = type(results).__name__
        raise DataError(f"must map names to results; got {kind}", where="results")
    if not results:
        raise DataError("must hold at least one result", where="results")
    known = (*_SECTIONS, Check)
    for name, result in results.items():
        if not isinstance(result, known):
            raise DataError(f"must be a result of promo_ray; got {type(result)}", where=name)
    names = Names(_scaled(unit, results.values()), tuple(arms))
    found = _checks([*results.values(), *checks])
    sections = [
        _SECTIONS[type(result)](_key(i), name, result, names)
        for i, (name, result) in enumerate(results.items())
        if not isinstance(result, Check)
    ]
    if found:
        sections.append(checks_section([c._asdict() for c in found]))
    main = next((f for r in results.values() if (f := _facts(r, names)) is not None), None)
    given = [*checks, *(r for r in results.values() if isinstance(r, Check))]
    judged = _verdict(main, given, names)
    design = design or "not told"
    return render_page(
        title=title,
        verdict=judged,
        tiles=[] if judged.label == WITHHELD else _tiles(main, names),
        evidence=_evidence(main, design),
        sections=sections or [Section("none", "Results", missing="only checks were given")],
        footer=[("Design", design), *_footer(main), ("Made by", "promo_ray")],
    )


def _key(i: int) -> str:
    return f"result-{i + 1}"


def _scaled(unit: str, results: Iterable[Result]) -> Unit:
    """Counts and rates below one half per user are told per 100 users."""
    own = Unit(unit)
    if own.is_money:
        return own
    levels = [abs(v) for r in results for v in told.levels(r)]
    return Unit(unit, 100) if levels and max(levels) < 0.5 else own


def _checks(results: Sequence[object]) -> list[Check]:
    found: dict[tuple[str, str], Check] = {}
    for result in results:
        own = (result,) if isinstance(result, Check) else getattr(result, "checks", ())
        found |= {(c.name, c.detail): c for c in own}
    return list(found.values())


def _facts(result: Result, names: Names) -> _Facts | None:
    """Facts of a result that gives a verdict, else None."""
    if isinstance(result, AbTest):
        n = sum(a.n for a in result.arms)
        interval = percent(result.level)
        if len(result.arms) > 2:
            interval += f", p-values adjusted for several arms ({result.correction})"
        lifts = told.lifts_of(result, names)
        return _Facts(n, n, result.estimator, interval, lifts=lifts, checks=result.checks)
    if isinstance(result, SequentialTest):
        n = int(result.n[-1]) if len(result.n) else 0
        estimator = f"sequential, {result.method.replace('_', ' ')}"
        interval = f"{percent(result.level)}, holds at all looks together"
        lifts = told.looked_lifts(result, names)
        return _Facts(n, n, estimator, interval, lifts=lifts, checks=result.checks)
    if isinstance(result, Release):
        gain, label = result.gain, "Release" if result.is_released else "Keep the old policy"
        words = "can replace" if result.is_released else "is not shown to beat"
        sentence = f"The new policy {words} the old one: {told.gain_words(gain, names)}."
        verdict = "better" if result.is_released else "worse" if gain.high < 0 else "not shown"
        lift = Lift("new policy", gain.value, gain.low, gain.high, verdict)
        return _Facts(
            gain.n_users, gain.ess, gain.method, _interval(gain), gain.withheld, (lift,), label,
            sentence,
        )  # fmt: skip
    if isinstance(result, PolicyEstimate):
        lift = Lift("the policy", result.value, result.low, result.high, "estimated")
        sentence = f"The estimate is {told.gain_words(result, names)}."
        return _Facts(
            result.n_users, result.ess, result.method, _interval(result), result.withheld, (lift,),
            "Estimated", sentence,
        )  # fmt: skip
    return None


def _interval(estimate: PolicyEstimate) -> str:
    return f"{percent(estimate.level)}, {estimate.interval}"


def _verdict(main: _Facts | None, checks: Sequence[Check], names: Names) -> Verdict:
    found = {*checks, *(main.checks if main else ())}
    failed = sorted(broken_words(c.name, c.detail) for c in found if not c.passed)
    own = main.withheld if main else ""
    withheld = [f"{own[:1].upper()}{own[1:]}."] if own else []
    withheld += failed
    if withheld:
        text = "The verdict is withheld: these data cannot tell."
        return Verdict("unproven", WITHHELD, text, tuple(withheld))
    if main is None:
        text = "No result here gives a verdict; the sections show what was measured."
        return Verdict("unknown", "No verdict", text)
    verdicts = [lift.verdict for lift in main.lifts]
    if main.sentence:
        status = {"better": "proven", "worse": "loss", "estimated": "partly"}.get(
            verdicts[0], "unproven"
        )
        return Verdict(status, main.label, main.sentence)
    return _verdict_of_arms(main, names)


def _verdict_of_arms(main: _Facts, names: Names) -> Verdict:
    """By the best arm that is better, else by the harm, else by the largest estimate."""
    by_value = sorted(main.lifts, key=lambda lift: -lift.value)
    better = [lift for lift in by_value if lift.verdict == "better"]
    worse = [lift for lift in by_value if lift.verdict == "worse"]
    chosen = (better or worse or by_value)[0]
    others = tuple(
        f"{lift.words(names)}: {lift.verdict}." for lift in by_value if lift is not chosen
    )
    text = f"{chosen.words(names)}."
    if better:
        return Verdict("proven", "Proven", text, others)
    if worse:
        return Verdict("loss", "Loses", text, others)
    is_running = chosen.verdict == "go on"
    note = (
        "The test goes on: no limit was crossed yet."
        if is_running
        else "The interval includes no difference at all."
    )
    return Verdict("unproven", "Go on" if is_running else "Not proven", text, (note, *others))


def _tiles(main: _Facts | None, names: Names) -> list[tuple[str, str, str]]:
    if main is None:
        return []
    unit = names.unit
    tiles = [
        (f"{lift.label}, {unit.per}", unit.one_user(lift.value), told.ends(lift, unit))
        for lift in main.lifts[:3]
    ]
    return [*tiles, ("Users", count(main.n), "in the comparison")]


def _evidence(main: _Facts | None, design: str) -> str:
    if main is None:
        return ""
    size = f", effective sample {count(main.ess)}" if round(main.ess) != main.n else ""
    return (
        f"By {count(main.n)} users{size}. Design: {design}. "
        f"Estimator: {main.estimator}; interval: {main.interval}."
    )


def _footer(main: _Facts | None) -> list[tuple[str, str]]:
    if main is None:
        return []
    return [
        ("Users", count(main.n)),
        ("Effective sample size", count(main.ess)),
        ("Estimator", main.estimator),
        ("Interval", main.interval),
    ]
