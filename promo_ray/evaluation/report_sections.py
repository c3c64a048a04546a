"""Sections of the report on data and plan: tables, charts and sentences from artefacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from promo_ray.errors import DataError
from promo_ray.evaluation import report_charts as charts
from promo_ray.evaluation.report_charts import Drawing
from promo_ray.evaluation.report_words import (
    DASH,
    Unit,
    count,
    decimal,
    number,
    percent,
    users,
)
from promo_ray.offers import from_terms

Row = Mapping[str, Any]
_COINS = {"USD": "dollar", "EUR": "euro", "GBP": "pound"}


class Table(NamedTuple):
    """A table; columns from `n_text` on are numbers and stand on the right."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_text: int = 1


class Section(NamedTuple):
    """One section: sentences, then tables and charts; `missing` says why there are none."""

    key: str
    title: str
    text: Sequence[str] = ()
    blocks: Sequence[Table | Drawing] = ()
    missing: str = ""


def data(facts: Row, quality: Row | None) -> Section:
    """What was run on what."""
    found, design = quality or {}, facts.get("design") or {}
    n_log = number(facts.get("n_log_rows"))
    lines = [
        ("Data set", facts.get("name")),
        ("Events", count(found.get("n_rows"))),
        ("Users", count(facts.get("n_users", found.get("n_users")))),
        ("Items", count(facts.get("n_items", found.get("n_items")))),
        ("First event", str(found.get("first_at") or DASH)[:10]),
        ("Last event", str(found.get("last_at") or DASH)[:10]),
        ("Users in the past campaign", count(n_log)),
        ("Its design", design_words(design) if design else DASH),
        ("What counts", _outcome_words(design) if design else DASH),
    ]
    rows = [[title, str(value)] for title, value in lines if value not in (None, "", DASH)]
    text = [str(note) for note in facts.get("notes") or ()]
    if design.get("note"):
        note = str(design["note"])
        text.append(f"{note[:1].upper()}{note[1:].rstrip('.')}.")
    if facts.get("is_simulated"):
        text.insert(0, "The data are simulated: no real person is in them.")
    return Section("data", "The data", text, [Table("What was run on what", ["", ""], rows, 2)])


def design_words(design: Row) -> str:
    """How users came to their offers."""
    if not design.get("is_randomized"):
        return "not randomized; chances are estimated"
    share = number(design.get("control_propensity"))
    return "randomized" + (f"; {percent(share)} got nothing" if share is not None else "")


def _outcome_words(design: Row) -> str:
    outcome = str(design.get("outcome", "")).removeprefix("is_").replace("_", " ")
    unit = str(design.get("unit", ""))
    return f"{outcome}, in {unit}" if unit and unit != outcome else outcome


def quality(report: Row) -> Section:
    """Faults found in the events and what was done about them."""
    total = number(report.get("n_rows")) or 0.0
    cleaned = report.get("cleaned") or {}
    found = [
        (f"missing {k.replace('_', ' ')}", v) for k, v in (report.get("missing") or {}).items()
    ]
    found += [(k.replace("_", " "), v) for k, v in (report.get("impossible") or {}).items()]
    found += [
        ("exact duplicates", report.get("n_duplicates")),
        ("items that the catalog lacks", report.get("n_rows_not_in_catalog")),
        ("earlier than the row before", report.get("n_out_of_order")),
        ("bought at a price of zero", report.get("n_free")),
        ("returns", report.get("n_returns")),
    ]
    found += [
        (f"extreme {name.replace('_', ' ')}", int(ends.get("below", 0)) + int(ends.get("above", 0)))
        for name, ends in (report.get("outliers") or {}).items()
    ]
    rows = [
        [name, count(n), percent(float(n) / total if total else 0.0, 2)]
        for name, n in found
        if number(n) and 0 < float(n) < max(total, 1.0)
    ]
    empty = [name.removeprefix("missing ") for name, n in found if total and number(n) == total]
    text = [f"{count(total)} rows of {count(report.get('n_users'))} users were looked at."]
    if not rows:
        text.append("No fault was found.")
    if empty:
        text.append(f"Not recorded in this data set: {', '.join(empty)}.")
    blocks = [Table("Faults and oddities", ["What", "Rows", "Share"], rows)] if rows else []
    done = [[str(k).replace("_", " "), count(v)] for k, v in cleaned.items() if number(v)]
    if done:
        blocks.append(Table("What cleaning did", ["Action", "Rows"], done))
    return Section("quality", "Data quality", text, blocks)


def segments(document: Row, money: Unit, k: int) -> Section:
    """Lifecycle segments and the map of recency and frequency; small cells hidden."""
    found = [s for s in document.get("segments") or () if number(s.get("n_users"))]
    rows = []
    for s in found:
        own = [
            decimal(s.get("mean_frequency"), 1),
            money.total(s.get("mean_monetary")),
            decimal(s.get("mean_recency_days"), 0),
            percent(s.get("mean_deal_share")),
        ]
        is_small = float(s["n_users"]) < k
        rows.append(
            [_name(s["segment"]), users(s["n_users"], k), *(["hidden"] * 4 if is_small else own)]
        )
    columns = [
        "Segment",
        "Users",
        "Orders",
        "Spend per order",
        "Days since order",
        "Bought on deal",
    ]
    blocks: list[Table | Drawing] = [Table("Segments, means per user", columns, rows)]
    shown = [s for s in found if float(s["n_users"]) >= k]
    if shown:
        words = ", ".join(f"{_name(s['segment'])} {count(s['n_users'])}" for s in shown)
        names, sizes = [_name(s["segment"]) for s in shown], [float(s["n_users"]) for s in shown]
        blocks.insert(0, charts.bars(names, sizes, x="users", alt=f"Users by segment: {words}."))
    if np.sum(document.get("rfm") or 0):
        blocks.append(charts.rfm_heat_map(document["rfm"], k))
    text = [f"Where users stand. Figures about fewer than {k} users are not shown."]
    return Section("segments", "Your customers", text, blocks)


def _name(segment: Any) -> str:
    return str(segment).replace("_", " ")


def prices(plan: Row, unit: Unit) -> Section:
    """Largest changes of list prices, and the search of the settings behind them."""
    items = list(plan.get("rows") or ())
    moved = [r for r in items if r.get("new_price") != r.get("old_price")]
    moved.sort(key=lambda r: -(number(r.get("profit_change")) or 0.0))
    total = sum(number(r.get("profit_change")) or 0.0 for r in moved)
    text = [
        f"{count(len(moved))} of {count(len(items))} list prices move, within the guardrails; the "
        f"expected effect is {unit.total(total)} of profit per week. Everybody sees the same list "
        "price. Elasticity −2 means: 1\u00a0% dearer sells 2\u00a0% less."
    ]
    rows = [
        [
            str(r.get("title") or r.get("item_id")),
            str(r.get("category") or DASH),
            unit.total(r.get("old_price")),
            unit.total(r.get("new_price")),
            decimal(r.get("elasticity")),
            unit.total(r.get("profit_change")),
        ]
        for r in moved[:12]
    ]
    columns = ["Item", "Category", "Price now", "New price", "Elasticity", "Profit per week"]
    blocks = [Table("Changes that matter most", columns, rows, 2)] if rows else []
    trials = sorted(plan.get("trials") or (), key=lambda t: number(t.get("loss")) or 0.0)
    if trials:
        text.append(
            f"{len(trials)} settings of the demand model were tried against weeks it had not seen."
        )
        tried = [
            [_setting(t.get("config")), percent(t.get("loss"), 1), count(t.get("n_iter"))]
            for t in trials[:8]
        ]
        columns = ["Setting", "Forecast error", "Rounds"]
        blocks.append(Table("Best settings tried", columns, tried))
    return Section("prices", "Price plan", text, blocks)


def _setting(config: Any) -> str:
    """`name value, name value` of a JSON object; other text as it is."""
    try:
        values = orjson.loads(config)
    except (orjson.JSONDecodeError, TypeError):
        return str(config)
    if not isinstance(values, dict):
        return str(config)
    return ", ".join(
        f"{_name(k)} {v:.4g}" if number(v) else f"{_name(k)} {v}" for k, v in values.items()
    )


def menu(offers: Sequence[Row], solution: Row | None, unit: Unit, k: int) -> Section:
    """The offers in plain words, and how many users get each."""
    given = _given(solution)
    rows = []
    for offer in offers:
        cost = unit.total(offer.get("contact_cost")) if unit.is_money else DASH
        n = given.get(str(offer.get("offer_id")))
        title = str(offer.get("label") or offer.get("offer_id"))
        rows.append([title, _terms(offer, unit), cost, users(n, k)])
    text = ["The offers of the campaign. A user gets one of them or none."]
    columns = ["Offer", "What the customer gets", "Cost to send", "Users"]
    return Section("menu", "The offers", text, [Table("Menu of offers", columns, rows, 2)])


def _terms(offer: Row, unit: Unit) -> str:
    try:
        return from_terms(offer, unit.name if unit.is_money else "USD").describe()
    except DataError:
        return str(offer.get("label") or offer.get("mechanic"))


def _given(solution: Row | None) -> dict[str, float]:
    """Users per offer id, "" = no offer."""
    by_segment = (solution or {}).get("by_segment") or {}
    totals: dict[str, float] = {}
    for row in by_segment.values():
        for name, n in zip(["", *(solution or {}).get("offer_ids", ())], row, strict=False):
            totals[str(name)] = totals.get(str(name), 0.0) + float(n)
    return totals


def who(solution: Row, offers: Sequence[Row], k: int) -> Section:
    """Offers by segment; small cells hidden."""
    titles = {str(o.get("offer_id")): str(o.get("label") or o.get("offer_id")) for o in offers}
    ids = [str(i) for i in solution.get("offer_ids") or ()]
    names = ["no offer", *(titles.get(i, i) for i in ids)]
    found = (solution.get("by_segment") or {}).items()
    by_segment = {_name(segment): list(counts) for segment, counts in found}
    rows = []
    for segment, counts in by_segment.items():
        cells = [users(n, k) for n in counts]
        is_small = sum(counts) < k
        rows.append([segment, *(["hidden"] * len(counts) if is_small else cells)])
    shown = {
        segment: [float(n) if n >= k else 0.0 for n in counts]
        for segment, counts in by_segment.items()
        if sum(counts) >= k
    }
    blocks: list[Table | Drawing] = [charts.stacked_shares(shown, names)] if shown else []
    blocks.append(Table("Users by segment and offer", ["Segment", *names], rows))
    text = [
        "An offer goes to users whom it changes, not to those who would buy anyway; "
        "many good customers therefore get none."
    ]
    return Section("who", "Who gets what", text, blocks)


def budget(solution: Row, unit: Unit, money: Unit) -> Section:
    """Budgets, their use and what one more unit of each would earn."""
    names = list(solution.get("budget_names") or ())
    columns = [list(solution.get(k) or ()) for k in ("budgets", "used", "prices")]
    rows, text = [], []
    for name, limit, used, price in zip(names, *columns, strict=False):
        is_money = name == "spend"
        say = money.total if is_money else count
        share = used / limit if limit else 0.0
        rows.append([_name(name), say(limit), say(used), percent(share, 1), unit.total(price)])
        text.append(_shadow(_name(name), price, money if is_money else None, unit))
    gap = number(solution.get("gap"))
    if gap is not None:
        least = np.floor(1e5 * (1 - gap)) / 1e5 if gap > 0 else 1.0  # never more than is certain
        text.append(
            f"The choice of who gets what is certified: it reaches at least {percent(least, 3)} "
            "of the best that any choice could earn by the models within these limits."
        )
    head = ["Budget", "Limit", "Planned", "Used", "Worth of one more"]
    return Section("budget", "The budget", text, [Table("Budgets", head, rows)])


def _shadow(name: str, price: Any, money: Unit | None, unit: Unit) -> str:
    known = number(price) or 0.0
    if known <= 1e-9:
        return f"The {name} budget does not bind: more of it would earn nothing."
    one = "unit" if money is None else _COINS.get(money.name, money.name)
    text = f"One more {one} of {name} budget would earn {unit.total(known)}"
    is_net = money is not None and unit.is_money
    return text + (" on top of its own cost, which is already taken off." if is_net else ".")
