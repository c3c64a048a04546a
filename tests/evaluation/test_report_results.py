"""The report of results without a campaign: verdict first, refusals with their reasons."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import numpy as np
import pytest

from promo_ray.errors import DataError
from promo_ray.evaluation import (
    ab_test,
    auuc,
    calibration,
    compare_policies,
    effects_by_segment,
    effects_over_time,
    gain_curve,
    lower_bound,
    policy_value,
    qini,
    qini_curve,
    release_gate,
    report,
    sample_ratio,
    sequential_test,
    uplift_at,
    window_outcomes,
)

N = 4000


def _trial(effect: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    arm = rng.integers(0, 2, N)
    return (rng.random(N) < 0.1 + effect * arm).astype(float), arm


def _text(html: str) -> str:
    body = html[html.index("<body>") :]
    body = re.sub(r"<script.*?</script>", " ", body, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", body)))


def _head(html: str) -> str:
    return _text(html[: html.index("</header>")].replace("<head>", "")).strip()


def test_a_proven_test_says_by_how_much_first() -> None:
    visits, arm = _trial(0.05)
    test = ab_test(visits, arm, expected=[1, 1])
    html = report(
        {"Visits": test}, unit="visits", design="randomized by user", arms=("no mail", "mail")
    )
    head = _head(html)
    size = f"{100 * test[1].effect:.2f}"
    assert f"Proven Mail brings {size} visits more per 100 users than no mail" in head
    assert "By 4,000 users. Design: randomized by user. Estimator: " in head
    assert "interval: 95 %" in head
    assert "Group sizes" in _text(html)
    assert html == report(
        {"Visits": test}, unit="visits", design="randomized by user", arms=("no mail", "mail")
    )


@pytest.mark.parametrize(
    ("effect", "label", "words"),
    [(0.0, "Not proven", "includes no difference"), (-0.05, "Loses", "less per 100 users")],
)
def test_no_difference_and_harm_are_told_apart(effect: float, label: str, words: str) -> None:
    html = report({"Visits": ab_test(*_trial(effect), expected=[1, 1])}, unit="visits")
    assert label in _head(html)
    assert words in _head(html)
    assert "Design: not told" in _head(html)


def test_a_broken_sample_ratio_withholds_the_verdict_and_says_why() -> None:
    visits, arm = _trial(0.05)
    keep = (arm == 1) | (np.arange(N) % 5 > 0)
    html = report({"Visits": ab_test(visits[keep], arm[keep], expected=[1, 1])}, unit="visits")
    head = _head(html)
    assert "Withheld The verdict is withheld" in head
    assert "Group sizes: arms hold" in head
    assert "Proven" not in head
    other = report({"Visits": ab_test(visits, arm)}, checks=[sample_ratio([900, 500], [1, 1])])
    assert "Withheld" in _head(other)


def _log(n: int = N) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    arm = rng.integers(0, 3, n)
    reward = (rng.random(n) < np.array([0.05, 0.06, 0.2])[arm]).astype(float)
    return {"action": arm, "reward": reward, "propensity": np.full(n, 1 / 3)}


def test_off_policy_estimates_and_the_gate_have_verdicts_of_their_own() -> None:
    log, new = _log(), np.tile([0.0, 0.1, 0.9], (N, 1))
    value = policy_value(new, **log)
    head = _head(report({"New policy": value}, unit="visits", design="logged"))
    assert "Estimated The estimate is " in head
    assert f"effective sample {value.ess:,.0f}" in head
    gate = release_gate(new, None, **log)
    assert "Release The new policy can replace the old one" in _head(report({"Gate": gate}))
    worse = np.tile([1.0, 0.0, 0.0], (N, 1))
    text = _head(report({"Gate": release_gate(worse, None, **log)}))
    assert "is not shown to beat the old one" in text


def test_level_users_and_kind_of_the_interval_are_told() -> None:
    log, new = _log(), np.tile([0.0, 0.1, 0.9], (N, 1))
    users = np.arange(N) // 2
    value = policy_value(new, **log, level=0.8, groups=users)
    head = _head(report({"New policy": value}))
    assert f"By {N // 2:,} users" in head
    assert "interval: 80 %, two-sided" in head
    bound = lower_bound(new, **log)
    head = _head(report({"Bound": bound}, unit="visits"))
    assert "at least " in head
    assert "no interval" not in head
    assert "interval: 95 %, lower end only, guaranteed" in head


@pytest.mark.parametrize(
    ("change", "words"),
    [({"propensity": None}, "ropensit"), ({}, "ffective sample")],
)
def test_refusals_of_the_log_are_told(change: dict[str, Any], words: str) -> None:
    log = _log(120) | change
    new = np.tile([0.0, 0.0, 1.0], (120, 1))
    html = report(
        {"New": compare_policies(new, None, **log), "Gate": release_gate(new, None, **log)}
    )
    assert "Withheld" in _head(html)
    assert words in _head(html)
    assert "Not known: " in _text(html)


def test_every_kind_of_result_has_its_section() -> None:
    visits, arm = _trial(0.05)
    rng = np.random.default_rng(2)
    score = rng.random(N)
    segment = np.where(rng.random(N) < 0.999, "regular", "rare")
    effect = rng.normal(size=N)
    scores = np.column_stack([visits, visits + effect])
    windows = window_outcomes(
        np.zeros(N), np.arange(N), rng.uniform(0, 60, N), visits, windows=(7, 28), analyzed_at=60
    )
    results = {
        "Looks": sequential_test(visits, arm, looks=4, n_planned=8000),
        "Any time": sequential_test(visits, arm),
        "Segments": effects_by_segment(visits, arm, segment),
        "Windows": effects_over_time(windows, arm),
        "Curve": qini_curve(score, arm, visits),
        "Qini": qini(score, arm, visits, n_boot=20),
        "Area": auuc(score, arm, visits, n_boot=0),
        "Top": uplift_at(score, arm, visits, n_boot=20),
        "Gain": gain_curve(effect[:, None], np.ones((N, 1)), scores),
        "Right in size": calibration(effect, effect + rng.normal(size=N)),
        "Shares": sample_ratio(np.bincount(arm), [1, 1]),
        "Second": ab_test(visits, arm),
    }
    html = report(results, title="<b>All</b>", unit="visits", arms=("control", "<i>mail</i>"))
    text = _text(html)
    assert "<b>All</b>" in text
    assert "<i>mail</i>" not in html
    for i, name in enumerate(results):
        assert (f'id="result-{i + 1}"' in html) == (name != "Shares")
    assert "rare, fewer than 20" not in text
    assert "fewer than 20 hidden hidden hidden" in text
    assert "no interval" in text  # of the area without resamples
    assert "One unit more predicted came with 1.0" in text
    assert "<b>All</b> Proven" in _head(html)


def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(DataError, match="at least one result"):
        report({})
    with pytest.raises(DataError, match="results: must map names to results; got AbTest"):
        report(ab_test(np.arange(8.0), np.arange(8) % 2))
    with pytest.raises(DataError, match="x: must be a result"):
        report({"x": 3.0})  # type: ignore[dict-item]
