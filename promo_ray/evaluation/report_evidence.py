"""Sections of the report on evidence: gains with intervals, curves, checks, course of the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from promo_ray.evaluation import report_charts as charts
from promo_ray.evaluation.report_charts import Dot, Drawing
from promo_ray.evaluation.report_islands import lineage
from promo_ray.evaluation.report_sections import Row, Section, Table
from promo_ray.evaluation.report_words import (
    DASH,
    POLICIES,
    Unit,
    check_words,
    count,
    decimal,
    gains_of,
    interval_of,
    number,
    percent,
    users,
)

_RULES = {
    "max_offers": "number of offers",
    "max_depth_rate": "largest discount",
    "min_margin_rate": "margin floor",
    "mechanics": "mechanics allowed",
    "support": "only what was tried",
    "forbidden_pairs": "offers not side by side",
    "exclusive_groups": "one offer of a group",
}


def effect(estimates: Row, unit: Unit, k: int) -> Section:
    """What the plan earns beside what else could be done; promised, evaluated and true."""
    gains, truth = gains_of(estimates), estimates.get("truth") or {}
    dots, rows = [], []
    for name, gain in gains.items():
        label, own = POLICIES.get(name, name.replace("_", " ")), estimates["policies"][name]
        dots.append(Dot(label, *gain, is_own=name == "policy"))
        ends = unit.span(gain.low, gain.high)
        ess = count((own.get("against_none") or {}).get("ess"))
        rows.append(
            [label, unit.one_user(gain.value), ends, percent(own.get("offered_share")), ess]
        )
    for name, label in (("served", "This plan, true"), ("oracle", "Perfect foresight, true")):
        if number(truth.get(name)) is not None:
            dots.append(Dot(label, float(truth[name])))
            rows.append([label, unit.one_user(truth[name]), "exact", DASH, DASH])
    text = [
        "Each line is a way to run the campaign; the dot is what it would earn against sending "
        "nothing, the whisker how sure that is. A whisker that crosses zero proves no gain.",
        *_promise(estimates, unit),
    ]
    columns = ["What is done", f"Gain {unit.per}", "Interval", "Get an offer", "Effective users"]
    blocks: list[Table | Drawing] = []
    if dots:
        caption = f"Gain against no offers, {unit.axis}"
        blocks = [charts.dots_and_whiskers(dots, unit), Table(caption, columns, rows)]
    blocks += _by_segment(estimates, unit, k)
    return Section("effect", "What it earns", text, blocks)


def _by_segment(estimates: Row, unit: Unit, k: int) -> list[Table]:
    """Gain of the plan in each segment; those of few users hidden."""
    rows = []
    for own in estimates.get("segments") or ():
        gain, name = own.get("gain") or {}, str(own.get("segment")).replace("_", " ")
        n = number(own.get("n")) or 0.0
        cells = ["hidden"] * 3
        if n >= k and gain.get("withheld"):
            cells = [percent(own.get("offered_share")), "not known", "too few by chance"]
        elif n >= k:
            share, value = percent(own.get("offered_share")), unit.one_user(gain.get("value"))
            cells = [share, value, _ends(gain, unit)]
        rows.append([name, users(n, k), *cells])
    columns = ["Segment", "Users", "Get an offer", f"Gain {unit.per}", "Interval"]
    return [Table(f"This plan by segment, {unit.axis}", columns, rows)] if rows else []


def _promise(estimates: Row, unit: Unit) -> list[str]:
    text = []
    promised, found = number(estimates.get("expected_per_user")), gains_of(estimates).get("policy")
    if promised is not None and found is not None:
        inside = found.low <= promised <= found.high
        end = "inside the interval." if inside else "outside it: trust the evaluated figure."
        text.append(
            f"The models promised {unit.one_user(promised)} {unit.per}; the users of the past "
            f"campaign say {unit.one_user(found.value)}. The promise lies {end}"
        )
    truth = estimates.get("truth") or {}
    if number(truth.get("served")) is not None:
        share = percent(truth.get("oracle_share"))
        text.append(
            "The shop is simulated, so the truth is known: this plan earns "
            f"{unit.one_user(truth['served'])} {unit.per}, {share} of what a planner who foresaw "
            "every user's answer would earn within the same budget."
        )
    return text


def uplift(curves: Sequence[Row], estimates: Row, unit: Unit) -> Section:
    """Qini and gain curves, and their measures."""
    blocks: list[Table | Drawing] = []
    text = []
    ranked = [{**r, "x": 100 * float(r["x"])} for r in curves if r.get("curve") == "uplift"]
    drawing = charts.lines(
        ranked,
        x="% of users who get the offer, most promising first",
        y=f"gain, {unit.axis}",
        alt="Gain by share of users who get the offer, most promising first, one line per offer.",
        scale=unit.scale,
    )
    if drawing:
        blocks.append(drawing)
        text.append(
            "Uplift curve: if the models rank users well, the line rises steeply at first and "
            "lies above the straight line to its end."
        )
    spend = [r for r in curves if r.get("curve") == "gain"]
    per_unit = f"{unit.name} per user"
    drawing = charts.lines(
        spend,
        x="spend per user" + (f", {unit.name}" if unit.is_money else ""),
        y=f"gain, {per_unit}",
        alt="Gain against no offers by spend per user, judged on users that no model had seen.",
    )
    if drawing:
        blocks.append(drawing)
        text.append(
            "Gain curve: what each size of budget would earn if spent in the best order. Where it "
            "gets flat, more budget earns nothing."
        )
    columns = ["Offer", f"Qini, {unit.per}", "Interval", f"Top 30 %, {unit.per}", "Interval"]
    rows = []
    for measure in estimates.get("uplift") or ():
        cells = [str(measure.get("offer") or "")]
        for name in ("qini", "uplift_at_30"):
            own = measure.get(name) or {}
            cells += [unit.one_user(own.get("value")), _ends(own, unit)]
        rows.append(cells)
    if rows:
        text.append(
            "Qini is the area between the uplift curve and the straight line: above zero, the "
            "ranking beats chance. Top 30 % is the gain among the users ranked highest."
        )
        blocks.append(Table(f"Ranking of users, {unit.name}", columns, rows))
    return Section("uplift", "Does the targeting work?", text, blocks)


def _ends(estimate: Row, unit: Unit) -> str:
    known = interval_of(estimate)
    return unit.span(known.low, known.high) if known else DASH


def calibration(curves: Sequence[Row], estimates: Row, unit: Unit) -> Section:
    """Predicted and observed gain by tenth of the prediction."""
    rows = [r for r in curves if r.get("curve") == "calibration"]
    alt = "Observed against predicted gain by tenth of users; points on the dashed line are right."
    drawing = charts.calibration(rows, unit, alt)
    text = [
        "Users in ten groups by predicted gain. Dots near the dashed line mean that predictions "
        "come true; a flat cloud means that the models cannot tell users apart."
    ]
    found = estimates.get("calibration") or {}
    slope, se = number(found.get("slope")), number(found.get("se"))
    if slope is not None and se is not None:
        text.append(slope_words(slope, se))
    return Section("calibration", "Do predictions come true?", text, [drawing] if drawing else [])


def slope_words(slope: float, se: float) -> str:
    """What the slope of observed on predicted effects says."""
    if not math.isfinite(slope):
        return "Predictions do not differ between users, so there is no slope."
    return (
        f"One unit more predicted came with {decimal(slope)} units observed (standard error "
        f"{decimal(se)}): 1 means right in size, below 1 promises too large, 0 no pattern."
    )


def search(document: Row, unit: Unit) -> Section:
    """Course of the menu search, and its winner judged on users it never saw."""
    history = [h for h in document.get("history") or () if number(h.get("best")) is not None]
    text: list[str] = []
    blocks: list[Table | Drawing] = []
    if document.get("is_enumerated"):
        n = count(document.get("n_menus"))
        text.append(f"There are only {n} menus, so every one was tried.")
    elif number(document.get("n_evals")):
        tried, there = count(document["n_evals"]), count(document.get("n_menus"))
        text.append(
            f"{tried} trials among {there} possible menus, by several populations side by side, "
            "which exchange their best."
        )
    if len(history) > 1:
        drawing = charts.lines(
            [_progress(h, i) for i, h in enumerate(history)],
            x="round of the search",
            y=f"best menu so far, {unit.axis}",
            alt="Value of the best menu found so far; flat lines at the end mean that it settled.",
            scale=unit.scale,
        )
        blocks += [drawing] if drawing else []
    if document.get("takeovers"):
        path = lineage(history, document["takeovers"])
        blocks += [path] if path else []
    judged = document.get("judged") or {}
    pairs = [
        ("against no offers", judged.get("gain_vs_none")),
        ("against the best single offer", judged.get("gain_vs_single")),
        ("against today's menu", judged.get("gain_vs_today")),
    ]
    rows = [
        [
            title,
            unit.one_user(known.value),
            unit.span(known.low, known.high),
        ]
        for title, estimate in pairs
        if (known := interval_of(estimate)) is not None
    ]
    if rows:
        text.append(
            f"The winner was judged by the models on {count(judged.get('n_users'))} users that the "
            "search never saw; the section “What it earns” judges it by what users really did."
        )
        columns = ["Chosen menu", f"Gain {unit.per}", "Interval"]
        blocks.append(Table("Chosen menu on users the search never saw", columns, rows))
    return Section(
        "search", "How the menu was found", text, [*blocks, *_menu_tables(document, unit)]
    )


def _menu_tables(document: Row, unit: Unit) -> list[Table]:
    """The menu in plain words, and the constraints that cost it value."""
    tables = []
    words = document.get("words") or ()
    if words:
        support = document.get("is_between") or [True] * len(words)
        rows = [
            [text, "yes" if ok else "no: the model guesses"]
            for text, ok in zip(words, support, strict=True)
        ]
        tables.append(Table("Winning menu", ["Offer", "Within what was tried"], rows))
    bindings = [b for b in document.get("bindings") or () if b.get("constraint") != "budget"]
    if bindings:
        rows = [
            [_RULES.get(b["constraint"], b["constraint"]), b["detail"], unit.one_user(b["gain"])]
            for b in bindings
        ]
        columns = ["Rule", "Relaxed to", f"At least this much more {unit.per}"]
        tables.append(Table("Rules that cost the menu value", columns, rows))
    return tables


def _progress(entry: Row, index: int) -> dict[str, Any]:
    series = f"population {int(entry['island']) + 1}" if "island" in entry else "search"
    at = number(entry.get("round"))
    return {"series": series, "x": index + 1 if at is None else at, "y": entry["best"]}


def checks(found: Sequence[Row]) -> Section:
    """Every check, what it means and how it came out."""
    rows = []
    for check in found:
        title, meaning = check_words(str(check.get("name")))
        outcome = "✓\u00a0passed" if check.get("passed") else "✗\u00a0failed"
        rows.append([title, outcome, str(check.get("detail") or ""), meaning])
    columns = ["Check", "Outcome", "Figures", "Why it matters"]
    text = ["A gain counts as proven only if every check passed."]
    return Section("checks", "Checks", text, [Table("Checks of the evidence", columns, rows, 4)])


def recommendations(quality: Row, k: int) -> Section:
    """How often a recommended item was in the next order."""
    n_items = count(quality.get("n_items"))
    rows = [
        ["these recommendations", percent(quality.get("hit_rate"), 1)],
        ["the most popular items for everyone", percent(quality.get("popularity_hit_rate"), 1)],
    ]
    text = [
        f"Each of {users(quality.get('n_users'), k)} users' last order was held back; a hit is an "
        f"order that holds one of the {n_items} items recommended from what came before."
    ]
    table = Table("Users with a hit", ["Shown", "Hit rate"], rows)
    return Section("recommendations", "Recommendations", text, [table])


_STATUS = {"done": "done", "current": "up to date", "skipped": "skipped", "failed": "failed"}


def stages(found: Sequence[tuple[str, str, str]]) -> Section:
    """What ran, what was skipped and why."""
    rows = [[name, _STATUS.get(status, status), note] for name, status, note in found]
    table = Table("Stages of this run", ["Stage", "Status", "Note"], rows, 3)
    return Section("stages", "How this report was made", (), [table])
