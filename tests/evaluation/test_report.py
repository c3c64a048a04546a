import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from promo_ray.evaluation.report import ReportContent, render_report
from promo_ray.evaluation.report_words import Unit, interval_of, users, verdict

EVIL = "<script>alert('x')</script>&\"</script>"


def _gain(value: float, half: float, ess: float = 2400.0) -> dict[str, Any]:
    ends = {"low": value - half, "high": value + half}
    return {"value": value, **ends, "se": half / 1.96, "ess": ess, "max_weight": 9.0, "n": 10_000}


def _estimates() -> dict[str, Any]:
    return {
        "unit": "USD",
        "n": 10_000,
        "n_users": 10_000,
        "level": 0.95,
        "estimator": "cross-fitted AIPW with logged propensities",
        "interval": "95% t interval, clustered by user",
        "design": {"is_randomized": True},
        "policies": {
            "policy": {
                "offered_share": 0.41,
                "against_none": _gain(1.24, 0.31),
                "against_best_single_to_all": _gain(0.78, 0.33),
                "against_best_single_in_budget": _gain(0.61, 0.25),
            },
            "best_single_to_all": {"offered_share": 1.0, "against_none": _gain(0.46, 0.35)},
            "best_single_in_budget": {"offered_share": 0.33, "against_none": _gain(0.63, 0.3)},
            "response_targeting": {"offered_share": 0.3, "against_none": _gain(-0.12, 0.4)},
        },
        "expected_per_user": 1.31,
        "uplift": [
            {
                "offer": "15% off everything",
                "qini": {"value": 0.21, "low": 0.08, "high": 0.33},
                "uplift_at_30": {"value": 2.4, "low": 1.5, "high": 3.3},
            }
        ],
        "calibration": {"slope": 0.83, "se": 0.12},
        "segments": [
            {"segment": "high_frequency", "n": 2104, "offered_share": 0.5, "gain": _gain(2.0, 0.9)},
            {"segment": "lapsed", "n": 61, "gain": {"withheld": "effective sample size"}},
            {"segment": "unknown", "n": 9, "offered_share": 0.5, "gain": _gain(9.0, 0.9)},
        ],
        "truth": {"served": 1.19, "oracle": 1.72, "oracle_share": 0.692},
        "unknown_key": object(),
    }


def _curves() -> list[dict[str, Any]]:
    x = np.linspace(0, 1, 40)
    rows = []
    for name, height in (("15% off everything", 0.5), ("Spend 50.00 USD, save 10.00 USD", 0.3)):
        rows += [
            {"curve": "uplift", "series": name, "x": a, "y": 0.4 * a + height * a * (1 - a)}
            for a in x.tolist()
        ]
    rows += [
        {"curve": "gain", "series": "menu", "x": 2 * a, "y": y, "low": y - 0.3, "high": y + 0.3}
        for a in x.tolist()
        for y in [1.9 * (1 - math.exp(-3 * a))]
    ]
    rows += [
        {"curve": "calibration", "series": "mean", "x": p, "y": o, "low": o - 0.6, "high": o + 0.6}
        for p in np.linspace(-1, 3, 10).tolist()
        for o in [0.85 * p + 0.2 * math.sin(5 * p)]
    ]
    return rows


def _segments() -> dict[str, Any]:
    sizes = {"high_frequency": 2104, "lapsed": 1310, "lapsing": 1455, "low_frequency": 3620}
    rows = [
        {
            "segment": name,
            "n_users": n,
            "mean_recency_days": 12.0 + i * 20,
            "mean_frequency": 14.0 - 3 * i,
            "mean_monetary": 41.5 + i,
            "mean_deal_share": 0.2 + 0.1 * i,
        }
        for i, (name, n) in enumerate({**sizes, "new": 1502, "unknown": 9}.items())
    ]
    rfm = [[int(700 - 60 * abs(r - f) ** 2) if r + f else 7 for f in range(5)] for r in range(5)]
    return {"segments": rows, "rfm": rfm}


OFFERS = [
    {
        "offer_id": f"o{i}",
        "mechanic": mechanic,
        **dict.fromkeys(("depth_rate", "amount", "threshold", "scope", "item_ids")),
        **own,
        "contact_cost": 0.1,
    }
    for i, (mechanic, own) in enumerate(
        [
            ("percent_off", {"depth_rate": 0.15, "label": "15% off everything"}),
            (
                "percent_off",
                {"depth_rate": 0.25, "scope": "Food > Dairy", "label": "25% off Dairy"},
            ),
            ("spend_threshold", {"amount": 10.0, "threshold": 50.0, "label": "10 off from 50"}),
        ]
    )
]
SOLUTION = {
    "offer_ids": ["o0", "o1", "o2"],
    "budget_names": ["spend", "contacts"],
    "budgets": [9200.0, 6000.0],
    "used": [9199.4, 4100.0],
    "prices": [0.62, 0.0],
    "gap": 0.00021,
    "by_segment": {
        "high_frequency": [1500, 300, 200, 104],
        "lapsed": [500, 400, 110, 300],
        "lapsing": [300, 700, 15, 440],
        "low_frequency": [2300, 600, 400, 320],
        "new": [900, 302, 100, 200],
        "unknown": [7, 1, 1, 0],
    },
}
CHECKS = [
    {"name": "randomized", "passed": True, "detail": "offers were assigned at random"},
    {"name": "sample_ratio", "passed": True, "detail": "arms hold 3001, 2333 users; p = 0.71"},
    {"name": "overlap", "passed": True, "detail": "smallest propensity 0.078"},
    {"name": "effective_sample", "passed": True, "detail": "effective sample 2400 of 10000 rows"},
    {"name": "tried_offers", "passed": True, "detail": "0.0% of users"},
]


def full_content() -> ReportContent:
    """Plausible content of every part."""
    items = [
        {
            "item_id": f"item-{i:03d}",
            "category": "Food > Dairy",
            "elasticity": -2.1 + 0.1 * i,
            "old_price": 3.99 + i,
            "new_price": 3.79 + i if i % 3 else 3.99 + i,
            "profit_change": 14.2 - i,
        }
        for i in range(15)
    ]
    config = '{"prior_scale": 0.%d, "ridge": 1.0}'
    trials = [
        {"trial": i, "config": config % i, "loss": 0.31 - 0.01 * i, "n_iter": 8} for i in range(9)
    ]
    history = [
        {"round": r, "island": i, "best": 1.3 - 0.6 / (r + i + 1), "mean": 0.8, "n_evals": 50 * r}
        for r in range(1, 13)
        for i in range(4)
    ]
    return ReportContent(
        title="Spring campaign",
        data={
            "name": "simulated shop",
            "is_simulated": True,
            "n_users": 10_000,
            "n_items": 200,
            "n_log_rows": 10_000,
            "design": {
                "is_randomized": True,
                "outcome": "margin",
                "unit": "USD",
                "control_propensity": 0.3,
                "note": "Users were drawn into one of nine offers or none.",
            },
        },
        quality={
            "n_rows": 412_345,
            "n_users": 9_870,
            "first_at": "2026-01-05T00:00:12+00:00",
            "last_at": "2026-07-05T23:59:02+00:00",
            "missing": {"user_id": 0, "rating": 412_345, "unit_price": 120},
            "impossible": {"negative_quantity": 14},
            "n_duplicates": 31,
            "n_returns": 5_120,
            "outliers": {"unit_price": {"below": 10, "above": 402}},
            "cleaned": {"dropped_duplicates": 31, "filled_unit_price": 120},
        },
        segments=_segments(),
        price_plan={"rows": items, "trials": trials, "summary": {}},
        offers=OFFERS,
        solution=SOLUTION,
        estimates=_estimates(),
        checks=CHECKS,
        curves=_curves(),
        search={
            "history": history,
            "n_evals": 10_000,
            "n_menus": 4_598_126,
            "is_enumerated": False,
            "judged": {
                "n_users": 2_000,
                "gain_vs_none": {"mean": 1.35, "low": 1.3, "high": 1.4},
                "gain_vs_single": [0.4, 0.35, 0.45],
            },
        },
        recommendations={
            "n_users": 6_120,
            "n_items": 10,
            "hit_rate": 0.41,
            "popularity_hit_rate": 0.3,
        },
        stages=[("ingest", "done", ""), ("price", "current", ""), ("evaluate", "done", "")],
        config_digest="3f2a77c1",
    )


class _Page(HTMLParser):
    """Collects visible text, links, loaded resources and tables of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.addresses: list[str] = []
        self.counts: dict[str, int] = {}
        self.labels: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self._silent += tag in ("script", "style")
        for name, value in attrs:
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                self.addresses.append(value or "")
            if name == "aria-label":
                self.labels.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text.append(data)


def _read(html: str) -> tuple[_Page, str]:
    page = _Page()
    page.feed(html)
    return page, re.sub(r"\s+", " ", " ".join(page.text))


@pytest.fixture(scope="module")
def full() -> str:
    return render_report(full_content())


def test_the_page_opens_with_the_verdict_and_holds_every_section(full: str) -> None:
    page, text = _read(full)
    expected = (
        "This plan earns $1.24 more per user than no offers (95 % interval $0.93 to $1.55), "
        "$12,400 in all over 10,000 users; and $0.61 more per user than the best single offer "
        "within the same budget ($0.36 to $0.86)."
    )
    assert expected in text
    assert text.index("Proven") < text.index(expected) < text.index("What it earns")
    for words in (
        "randomized; 30 % got nothing",
        "Not recorded in this data set: rating.",
        "One more dollar of spend budget would earn $0.62 on top of its own cost",
        "The contacts budget does not bind",
        "at least 99.979 % of the best",
        "15% off everything",
        "69 % of what a planner who foresaw",
        "The models promised $1.31 per user",
        "4,598,126 possible menus",
        "cross-fitted AIPW",
        "3f2a77c1",
        "prior scale 0.8, ridge 1",
    ):
        assert words in text
    assert "Not known" not in text
    assert page.counts["figure"] == 8
    assert page.counts["caption"] == page.counts["table"]
    assert len([label for label in page.labels if label]) >= 8 + page.counts["table"]


def test_the_page_asks_nothing_of_the_outside_and_stays_below_6_mb(full: str) -> None:
    page, _ = _read(full)
    assert page.addresses
    assert all(address.startswith("#") for address in page.addresses)
    assert not {"link", "iframe", "img", "object", "embed"} & set(page.counts)
    style = full[full.index("<style>") : full.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in full
    assert len(full.encode()) < 6_000_000
    assert full.count("Plotly.newPlot(") >= 8
    assert full.count("plotly.js v") == 1


def test_the_same_content_gives_the_same_bytes(full: str) -> None:
    assert render_report(full_content()) == full


def test_without_any_input_every_section_says_why_it_is_missing() -> None:
    stages = [("evaluate", "skipped", "there is no campaign log.")]
    html = render_report(ReportContent(title="Nothing", stages=stages))
    page, text = _read(html)
    assert "Nobody knows yet what this plan earns: there is no campaign log." in text
    assert "Not evaluated" in text
    assert text.count("Not known: there is no campaign log.") == 4
    assert text.count("Not known: there was no input for it.") == 9
    assert page.counts.get("figure") is None
    assert len(html) < 50_000


def test_every_single_part_may_be_missing() -> None:
    content = full_content()
    defaults = ReportContent(title="t")
    for name in vars(content):
        if name not in ("title", "currency", "k_threshold"):
            html = render_report(replace(content, **{name: getattr(defaults, name)}))
            assert "</html>" in html


def _poisoned(value: Any) -> Any:
    if isinstance(value, str):
        return EVIL
    if isinstance(value, dict):
        return {k if k.islower() else EVIL: _poisoned(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_poisoned(v) for v in value]
    return value


def test_texts_from_data_are_escaped_everywhere(full: str) -> None:
    content = full_content()
    safe = ("currency", "k_threshold", "checks", "offers", "solution", "stages")
    parts = {k: _poisoned(v) for k, v in vars(content).items() if k not in safe}
    curves = [{**row, "series": EVIL} for row in _curves()]
    offers = [{**offer, "label": EVIL} for offer in OFFERS]
    by_segment = {EVIL: [100, 200, 300, 50], "new": [30, 30, 30, 30]}
    html = render_report(
        ReportContent(
            **{**parts, "curves": curves, "estimates": {**_estimates(), "unit": EVIL}},
            offers=offers,
            solution={**SOLUTION, "by_segment": by_segment, "budget_names": [EVIL, EVIL]},
            checks=[{"name": EVIL, "passed": False, "detail": EVIL}],
            stages=[(EVIL, EVIL, EVIL)],
        )
    )
    assert "<script>alert" not in html
    page, text = _read(html)
    assert page.counts["script"] == full.count("<script") - _library_scripts(full)
    assert "<script>alert('x')</script>" in text  # shown as text


def _library_scripts(html: str) -> int:
    """`<script` inside scripts, which no parser takes for a tag."""
    page, _ = _read(html)
    return html.count("<script") - page.counts["script"]


def test_groups_of_few_users_are_not_shown() -> None:
    content = full_content()
    html = render_report(content)
    _, text = _read(html)
    assert "fewer than 20 hidden hidden hidden hidden" in text  # segment "unknown", 9 users
    assert "unknown hidden hidden hidden hidden" in text  # the same, by offer
    assert "lapsing 300 700 fewer than 20 440" in text
    assert re.search(r'"z":\[\[null,', html)  # 7 users in the lowest cell of the heat map
    assert "lapsing 300 700 15 440" in _read(render_report(replace(content, k_threshold=5)))[1]


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({}, "proven", "This plan earns $1.24 more per user"),
        ({"against_none": _gain(0.2, 0.5)}, "unproven", "Not proven: the estimate is that"),
        ({"against_none": _gain(-2.0, 0.5)}, "loss", "This plan earns $2.00 less per user"),
        (
            {"against_best_single_in_budget": _gain(0.1, 0.4)},
            "partly",
            "$0.10 more per user than the",
        ),
        (
            {"against_best_single_in_budget": _gain(-2.0, 0.4)},
            "partly",
            "$2.00 less per user than the",
        ),
        (
            {"against_best_single_to_all": None, "against_best_single_in_budget": None},
            "partly",
            "This plan earns $1.24 more",
        ),
        ({"against_none": {"value": math.nan}}, "unknown", "Nobody knows yet"),
    ],
)
def test_the_verdict_follows_the_intervals(change: dict, status: str, words: str) -> None:
    estimates = _estimates()
    estimates["policies"]["policy"] |= change
    found = verdict(estimates, CHECKS, "USD", "no input")
    assert found.status == status
    assert words in found.sentence


def test_a_failed_or_missing_check_takes_the_proof_away() -> None:
    failed = [*CHECKS[1:], {"name": "sample_ratio", "passed": False, "detail": "4,000 of 9,000"}]
    found = verdict(_estimates(), failed, "USD", "")
    assert (found.status, found.label) == ("unproven", "Withheld")
    assert len(found.reasons) == 1
    assert found.reasons[0].startswith("Group sizes: 4,000 of 9,000. Every group must hold")
    assert "$" not in found.sentence
    html = render_report(replace(full_content(), checks=failed))
    assert "tiles" not in html[html.index("<header>") : html.index("</header>")]
    failed[-1] = {"name": "tried_offers", "passed": False, "detail": ""}
    found = verdict(_estimates(), failed, "USD", "")
    assert found.reasons == ("Failed checks: Offers tried before.",)
    assert found.sentence.startswith("Not proven: the estimate is that")
    assert verdict(_estimates(), None, "USD", "").status == "unproven"


def test_a_withheld_estimate_is_told_with_its_reason() -> None:
    estimates = _estimates()
    why = "effective sample size must be at least 100; got 44 of 300 rows"
    own = {"value": 3.0, "low": None, "high": None, "ess": 44.0, "withheld": why}
    estimates["policies"]["policy"]["against_none"] = own
    found = verdict(estimates, CHECKS, "USD", "")
    assert (found.status, found.label) == ("unproven", "Withheld")
    assert found.reasons == (f"E{why[1:]}.",)
    _, text = _read(render_report(ReportContent(title="Few users", estimates=estimates)))
    assert f"Not known: E{why[1:]}." in text


def test_gains_by_segment_hide_few_users_and_tell_what_is_not_known(full: str) -> None:
    _, text = _read(full)
    assert "high frequency 2,104 50 % $2.00 $1.10 to $2.90" in text
    assert "lapsed 61 – not known too few by chance" in text
    assert "unknown fewer than 20 hidden hidden hidden" in text
    assert "One unit more predicted came with 0.83 units observed" in text
    assert "By 10,000 users of a past campaign, randomized. Effective sample 2,400: about" in text


def test_rare_outcomes_are_told_per_100_users() -> None:
    estimates = {**_estimates(), "unit": "visits"}
    estimates["policies"] = {"policy": {"against_none": _gain(0.045, 0.01)}}
    found = verdict(estimates, CHECKS, "USD", "")
    assert "brings 4.50 visits more per 100 users than no offers" in found.sentence
    assert "450.00 visits in all over 10,000 users" in found.sentence
    html = render_report(replace(full_content(), estimates=estimates))
    assert "visits per 100 users" in html


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("USD", 12_345.6, "$12,346"),
        ("USD", -3.456, "−$3.46"),
        ("USD", 0.0123, "$0.012"),
        ("USD", 0.0801, "$0.08"),
        ("USD", 0.0, "$0"),
        ("SEK", 5.0, "5.00 SEK"),
        ("visits", 2.5, "2.50 visits"),
        ("USD", math.nan, "–"),
        ("USD", None, "–"),
    ],
)
def test_amounts_read_well(unit: str, value: Any, text: str) -> None:
    assert Unit(unit).total(value) == text


def test_small_groups_and_odd_intervals() -> None:
    assert [users(n, 20) for n in (0, 1, 19, 20, 1234)] == [
        "0",
        "fewer than 20",
        "fewer than 20",
        "20",
        "1,234",
    ]
    assert interval_of({"value": 1, "low": None, "high": 2}) is None
    assert interval_of("abc") is None
    assert interval_of([1, 0, 2]) == (1.0, 0.0, 2.0)
