"""The report: one self-contained HTML page that a merchant understands.

`ReportContent` holds plain values as they stand in the artefacts; `render_report` turns them into
a page without any request to the outside. What is missing is named with the reason. Keys that the
report does not know are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from promo_ray.evaluation import report_evidence as evidence
from promo_ray.evaluation import report_plans
from promo_ray.evaluation import report_sections as sections
from promo_ray.evaluation.report_charts import Drawing, fragments
from promo_ray.evaluation.report_sections import Section
from promo_ray.evaluation.report_words import (
    DASH,
    WITHHELD,
    Unit,
    Verdict,
    count,
    gains_of,
    number,
    percent,
    rival_of,
    unit_of,
    verdict,
    withheld_of,
)

Document = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """What the report tells; every part but the title may be missing.

    Attributes:
        title: heading of the page.
        currency: ISO 4217 code of money.
        data: `{name, is_simulated, n_users, n_items, n_log_rows, notes: [str], design: {
            is_randomized, outcome, unit, control_propensity, note}}`; `design` is that of the
            campaign log.
        quality: document `quality` of events: `{n_rows, n_users, n_items, first_at, last_at,
            missing: {column: rows}, impossible: {fault: rows}, n_duplicates, n_free,
            n_out_of_order, n_returns, n_rows_not_in_catalog, outliers: {column: {below, above}},
            cleaned: {action: rows}}`.
        segments: document `segments` of user profiles: `{segments: [{segment, n_users,
            mean_recency_days, mean_frequency, mean_monetary, mean_deal_share}], rfm: 5 lists of 5
            counts, [recency quintile][frequency quintile]}`.
        price_plan: `{rows: rows of table plan (item_id, title?, category, elasticity, old_price,
            new_price, profit_change), trials: rows of table trials (config, loss, n_iter)}`.
        offers: rows of the table of offer terms, in menu order.
        solution: document `solution` of the assignment: `{offer_ids, budget_names, budgets, used,
            prices, gap, by_segment: {segment: [n without offer, n of each offer]}}`.
        estimates: document `estimates` of the evaluation: `{unit, n, n_users, level?, estimator,
            interval, design, policies: {name: {offered_share, against_none: {value, low, high,
            ess}, against_best_single_to_all: {...}}}, expected_per_user, uplift: [{offer, qini:
            {value, low, high}, uplift_at_30: {...}}], segments: [{segment, n, offered_share,
            gain: {value, low, high, withheld}}], calibration: {slope, se}, truth: {served,
            oracle, oracle_share} or None}`. Values are per user in `unit`, a currency code or a
            plural such as `visits`.
        checks: `[{name, passed, detail}]`.
        curves: rows of table `curves`: `{curve: uplift | gain | calibration, series, x, y, low,
            high}`.
        search: document `search` of the menu: `{history: [{round, island, best}], takeovers:
            [{round, island, source, source_round, fitness, is_takeover}], n_evals, n_menus,
            is_enumerated, judged: {n_users, gain_vs_none, gain_vs_single}}`, gains as
            `{mean, low, high}`.
        plans: one document of `plan_set` per lifecycle plan; None = the campaign has none, and the
            report no such section.
        plans_left_out: `[{plan, why}]`.
        recommendations: document `quality` of the recommender: `{n_users, n_items, hit_rate,
            popularity_hit_rate}`.
        stages: (name, status, note) in order; a note of a skipped stage is the reason.
        config_digest: digest of the resolved config.
        k_threshold: groups of fewer users are not shown.
    """

    title: str
    currency: str = "USD"
    data: Document | None = None
    quality: Document | None = None
    segments: Document | None = None
    price_plan: Document | None = None
    offers: Sequence[Document] | None = None
    solution: Document | None = None
    estimates: Document | None = None
    checks: Sequence[Document] | None = None
    curves: Sequence[Document] | None = None
    search: Document | None = None
    plans: Sequence[Document] | None = None
    plans_left_out: Sequence[Document] = ()
    recommendations: Document | None = None
    stages: Sequence[tuple[str, str, str]] = ()
    config_digest: str = ""
    k_threshold: int = 20


def render_report(content: ReportContent) -> str:
    """One HTML page with everything in it: styles, charts and the library that draws them.

    The same content gives the same bytes.
    """
    reason = _reason(content, "evaluate")
    found = verdict(content.estimates, content.checks, content.currency, reason)
    return render_page(
        title=content.title,
        verdict=found,
        tiles=[] if found.label == WITHHELD else _tiles(content),
        evidence=_evidence(content),
        sections=_sections(content),
        footer=_footer(content),
    )


def render_page(
    *,
    title: str,
    verdict: Verdict,
    tiles: Sequence[tuple[str, str, str]],
    evidence: str,
    sections: Sequence[Section],
    footer: Sequence[tuple[str, str]],
) -> str:
    """A page from its parts.

    Args:
        title: heading.
        verdict: the answer, first on the page.
        tiles: label, figure and note of the figures under the verdict.
        evidence: one line on what the verdict rests on.
        sections: the rest, in order.
        footer: name and value of what every figure rests on.
    """
    drawings = [block for s in sections for block in s.blocks if isinstance(block, Drawing)]
    charts = dict(zip(map(id, drawings), fragments(drawings), strict=True))
    environment = Environment(
        loader=PackageLoader("promo_ray", "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.tests["drawing"] = lambda block: isinstance(block, Drawing)
    return environment.get_template("report.html.j2").render(
        title=title,
        verdict=verdict,
        tiles=tiles,
        evidence=evidence,
        sections=sections,
        # plotly wrote these fragments and escapes the texts in them
        chart=lambda block: Markup(charts[id(block)]),
        footer=footer,
    )


def _reason(content: ReportContent, stage: str) -> str:
    """Why a stage gave nothing."""
    for name, status, note in content.stages:
        if name == stage and status != "done" and note:
            return note.rstrip(".")
    withheld = withheld_of(content.estimates) if stage == "evaluate" else ""
    return withheld or "there was no input for it"


def _sections(content: ReportContent) -> list[Section]:
    c, k = content, content.k_threshold
    money, unit = Unit(c.currency), unit_of(c.estimates, c.currency)
    curves, estimates = c.curves or (), c.estimates or {}
    offers = c.offers or ()
    uplift = [r for r in curves if r.get("curve") in ("uplift", "gain")]
    calibration = [r for r in curves if r.get("curve") == "calibration"]
    by_segment = (c.solution or {}).get("by_segment")
    plan: list[tuple[str, str, str, Any, Callable[[], Section]]] = [
        ("effect", "What it earns", "evaluate", gains_of(estimates),
         lambda: evidence.effect(estimates, unit, k)),
        ("data", "The data", "ingest", c.data or c.quality,
         lambda: sections.data(c.data or {}, c.quality)),
        ("quality", "Data quality", "ingest", c.quality,
         lambda: sections.quality(c.quality or {})),
        ("segments", "Your customers", "profile", c.segments,
         lambda: sections.segments(c.segments or {}, money, k)),
        ("prices", "Price plan", "price", c.price_plan,
         lambda: sections.prices(c.price_plan or {}, money)),
        ("menu", "The offers", "design", offers,
         lambda: sections.menu(offers, c.solution, money, k)),
        ("plans", "Lifecycle plans", "plans", c.plans is not None,
         lambda: report_plans.plans(c.plans or (), c.plans_left_out, k)),
        ("who", "Who gets what", "allocate", by_segment,
         lambda: sections.who(c.solution or {}, offers, k)),
        ("budget", "The budget", "allocate", c.solution,
         lambda: sections.budget(c.solution or {}, unit, money)),
        ("uplift", "Does the targeting work?", "evaluate", uplift,
         lambda: evidence.uplift(uplift, estimates, unit)),
        ("calibration", "Do predictions come true?", "evaluate", calibration,
         lambda: evidence.calibration(calibration, estimates, unit)),
        ("search", "How the menu was found", "design", c.search,
         lambda: evidence.search(c.search or {}, unit)),
        ("checks", "Checks", "evaluate", c.checks,
         lambda: evidence.checks(c.checks or ())),
        ("recommendations", "Recommendations", "recommend", c.recommendations,
         lambda: evidence.recommendations(c.recommendations or {}, k)),
        ("stages", "How this report was made", "", c.stages,
         lambda: evidence.stages(c.stages)),
    ]  # fmt: skip
    return [
        build() if given else Section(key, title, missing=_reason(c, stage))
        for key, title, stage, given, build in plan
        if given or key != "plans"
    ]


def _tiles(content: ReportContent) -> list[tuple[str, str, str]]:
    """Label, figure and interval of the figures under the verdict."""
    estimates, tiles = content.estimates or {}, []
    unit, money = unit_of(content.estimates, content.currency), Unit(content.currency)
    main = gains_of(estimates).get("policy")
    if main is not None:
        ends = unit.span(main.low, main.high)
        tiles.append((f"Gain {unit.per}", unit.one_user(main.value), ends))
        n = number(estimates.get("n_users"))
        if n is not None:
            ends = f"{unit.total(main.low * n)} to {unit.total(main.high * n)}"
            tiles.append((f"Gain over {count(n)} users", unit.total(main.value * n), ends))
        other, _ = rival_of(estimates)
        if other is not None:
            ends = unit.span(other.low, other.high)
            tiles.append(("Against the best single offer", unit.one_user(other.value), ends))
    solution = content.solution or {}
    limits, used = solution.get("budgets") or (), solution.get("used") or ()
    if limits and used and limits[0]:
        note = f"{percent(used[0] / limits[0])} of {money.total(limits[0])}"
        tiles.append(("Planned spend", money.total(used[0]), note))
    return tiles


def _evidence(content: ReportContent) -> str:
    """What the verdict rests on, in one line."""
    estimates = content.estimates or {}
    own = (estimates.get("policies") or {}).get("policy") or {}
    design = estimates.get("design") or (content.data or {}).get("design") or {}
    n, ess = count(estimates.get("n")), count((own.get("against_none") or {}).get("ess"))
    if not design or DASH in (n, ess):
        return ""
    return (
        f"By {n} users of a past campaign, {sections.design_words(design)}. Effective sample "
        f"{ess}: about so many got by chance what this plan would give them. "
        f"Estimator: {estimates.get('estimator')}; {estimates.get('interval')}."
    )


def _footer(content: ReportContent) -> list[tuple[str, str]]:
    """What every figure rests on."""
    estimates = content.estimates or {}
    own = (estimates.get("policies") or {}).get("policy") or {}
    design = estimates.get("design") or (content.data or {}).get("design") or {}
    rows = [
        ("Users in the evaluation", count(estimates.get("n"))),
        ("Effective sample size", count((own.get("against_none") or {}).get("ess"))),
        ("Design", sections.design_words(design) if design else ""),
        ("Estimator", str(estimates.get("estimator") or "")),
        ("Interval", str(estimates.get("interval") or "")),
        ("Config", content.config_digest),
        ("Made by", "promo_ray"),
    ]
    return [(name, value) for name, value in rows if value not in ("", DASH)]
