from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers
from scipy.special import xlogy
from scipy.stats import binom, norm, ttest_ind

from promo_ray.errors import ConfigError, DataError
from promo_ray.evaluation.ab import ab_test, ab_test_over_blocks
from promo_ray.evaluation.ab_intervals import compare_proportions, score_statistic, wilson_interval
from promo_ray.evaluation.ab_moments import AbRows, block_moments, merge_moments
from promo_ray.evaluation.ab_segments import effects_by_segment
from promo_ray.execution import SerialExecutor
from promo_ray.numerics.merge_tree import tree_reduce


def test_means_are_compared_as_welch_does() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1.0, 1.0, 60), rng.normal(1.5, 3.0, 60)
    control, treated = ab_test(np.concatenate([a, b]), np.repeat([0, 1], 60))
    want = ttest_ind(b, a, equal_var=False)
    interval = want.confidence_interval(0.95)
    assert treated.p_value == pytest.approx(want.pvalue)
    assert (treated.effect_low, treated.effect_high) == pytest.approx((interval.low, interval.high))
    assert treated.effect == pytest.approx(b.mean() - a.mean())
    assert treated.relative == pytest.approx(b.mean() / a.mean() - 1)
    assert np.isnan(control.effect)
    assert control.low < control.mean < control.high


def test_wilson_interval_of_the_textbook() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_difference_of_proportions_of_the_textbook() -> None:
    # Newcombe 1998, table II (a), method 6: 56/70 against 48/80 gives 0.0528 to 0.3382
    outcome = np.concatenate([np.ones(48), np.zeros(32), np.ones(56), np.zeros(14)])
    _, treated = ab_test(outcome, np.repeat([0, 1], [80, 70]))
    assert (treated.effect_low, treated.effect_high) == pytest.approx((0.0528, 0.3382), abs=5e-5)


@pytest.mark.parametrize("case", [(56, 70, 48, 80), (9, 10, 3, 10), (0, 30, 2, 500), (3, 9, 0, 4)])
@pytest.mark.parametrize("difference", [-0.4, -0.01, 0.0, 0.2, 0.7])
def test_score_statistic_uses_the_most_likely_proportions(
    case: tuple[int, int, int, int], difference: float
) -> None:
    x, n, x_base, n_base = case
    grid = np.linspace(max(0.0, -difference), min(1.0, 1 - difference), 2_000_001)
    likelihood = sum(
        xlogy(k, p) + xlogy(m - k, 1 - p)
        for k, m, p in ((x, n, np.clip(grid + difference, 0, 1)), (x_base, n_base, grid))
    )
    base = float(grid[likelihood.argmax()])
    own = base + difference
    variance = own * (1 - own) / n + base * (1 - base) / n_base
    want = (x / n - x_base / n_base - difference) / (
        variance * (n + n_base) / (n + n_base - 1)
    ) ** 0.5
    assert score_statistic(x / n, n, x_base / n_base, n_base, difference) == pytest.approx(
        want, rel=1e-4
    )


@given(n=integers(1, 60), n_base=integers(1, 60), part=floats(0, 1), part_base=floats(0, 1))
def test_interval_and_p_value_of_proportions_agree(
    n: int, n_base: int, part: float, part_base: float
) -> None:
    share, base = round(part * n) / n, round(part_base * n_base) / n_base
    found = compare_proportions(share, n, base, n_base, 0.95)
    assert -1 <= found.low <= share - base <= found.high <= 1
    assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)
    mirrored = compare_proportions(base, n_base, share, n, 0.95)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-7)


def test_score_interval_covers_exactly_by_enumeration() -> None:
    # 1 % of 1,000 users per arm: Wald's interval of a rare event is not to be trusted there
    n, rate, z = 1000, 0.01, norm.ppf(0.975)
    counts = np.arange(60)
    chance = binom.pmf(counts, n, rate)
    inside = [[abs(score_statistic(a / n, n, b / n, n, 0.0)) <= z for a in counts] for b in counts]
    assert 0.945 <= float(chance @ np.array(inside) @ chance) <= 0.96


@pytest.mark.parametrize("kind", ["mean", "proportion"])
def test_intervals_cover_and_a_a_tests_seldom_alarm(kind: str) -> None:
    rng = np.random.default_rng(1)
    hits = alarms = 0
    for _ in range(600):
        if kind == "mean":
            outcome = rng.exponential(size=400)
        else:
            outcome = (rng.random(400) < 0.05).astype(float)
        result = ab_test(outcome, np.arange(400) % 2, kind=kind)[1]
        hits += result.effect_low <= 0 <= result.effect_high
        alarms += result.p_value < 0.05
    assert 0.92 <= hits / 600 <= 0.99
    assert alarms / 600 <= 0.08


def test_zeros_and_ones_may_be_treated_as_means() -> None:
    outcome, arm = np.array([0.0, 1, 0, 1, 1, 1, 0, 1]), np.repeat([0, 1], 4)
    assert ab_test(outcome, arm)[1].effect_low != ab_test(outcome, arm, kind="mean")[1].effect_low


def test_arms_without_any_scatter_give_an_exact_answer() -> None:
    result = ab_test([2.0, 2.0, 5.0, 5.0], [0, 0, 1, 1])[1]
    assert (result.effect, result.effect_low, result.p_value) == (3.0, 3.0, 0.0)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match="kind"):
        ab_test([1.0, 2.0], [0, 1], kind="magic")
    with pytest.raises(ConfigError, match="level"):
        ab_test([1.0, 2.0], [0, 1], level=1.0)
    with pytest.raises(DataError, match="2 rows per arm"):
        ab_test([1.0, 2.0, 3.0], [0, 0, 1])
    with pytest.raises(DataError, match="0 or 1"):
        ab_test([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1], kind="proportion")
    with pytest.raises(DataError, match="treatment"):
        ab_test([1.0, 2.0, 3.0, 4.0], [0, 0, 2, 2])
    with pytest.raises(ConfigError, match="correction"):
        ab_test([1.0, 2.0], [0, 1], correction="magic")
    with pytest.raises(ConfigError, match="denominator"):
        ab_test([1.0, 2.0], [0, 1], kind="ratio")
    with pytest.raises(DataError, match="a user in two"):
        ab_test([1.0, 2.0], [0, 1], groups=["a", "a"])
    with pytest.raises(DataError, match="covariate"):
        ab_test([1.0, 2.0], [0, 1], covariate=[1.0])


def test_verdicts_are_withheld_when_too_few_or_users_were_lost() -> None:
    few = ab_test([0.0, 1, 0, 1], [0, 0, 1, 1])
    assert few[1].verdict == "withheld"
    assert "100 are needed" in few.withheld[0]
    rng = np.random.default_rng(2)
    arm = np.repeat([0, 1], [5000, 5600])
    lost = ab_test(rng.normal(size=10_600) + arm, arm, expected=[1, 1])
    assert lost[1].verdict == "withheld"
    assert "p = " in lost.withheld[0]
    sound = ab_test(rng.normal(size=10_600) + arm, arm, expected=[50, 56])
    assert sound[1].verdict == "better"
    assert not sound.withheld


def _sessions(rng: np.random.Generator, lift: float) -> tuple[np.ndarray, ...]:
    """Clicks and views of sessions of 600 users, who differ in both."""
    user = np.repeat(np.arange(600), rng.integers(1, 9, 600))
    arm = (np.arange(600) % 2)[user]
    taste = rng.beta(2, 8, 600)[user]
    views = rng.poisson(3, len(user)) + 1.0
    clicks = rng.binomial(views.astype(int), taste).astype(float) * (1 + lift * arm)
    return clicks, views, arm, user


def test_ratio_is_the_delta_method_by_user() -> None:
    clicks, views, arm, user = _sessions(np.random.default_rng(3), 0.3)
    result = ab_test(clicks, arm, denominator=views, groups=user)
    assert result.kind == "ratio"
    variances = []
    for a in (0, 1):
        own = np.unique(user[arm == a])
        y = np.array([clicks[user == u].sum() for u in own])
        z = np.array([views[user == u].sum() for u in own])
        assert result[a].mean == pytest.approx(y.sum() / z.sum())
        variances.append(np.var(y - y.sum() / z.sum() * z, ddof=1) / z.mean() ** 2 / len(own))
    half = (result[1].effect_high - result[1].effect_low) / 2
    assert half == pytest.approx(1.964 * sum(variances) ** 0.5, rel=2e-3)


def test_rows_of_a_user_are_not_independent() -> None:
    alarms = {"by user": 0, "by row": 0}
    rng = np.random.default_rng(4)
    for _ in range(150):
        clicks, _, arm, user = _sessions(rng, 0.0)
        arm = (rng.permutation(600) % 2)[user]
        rate = clicks + 3.0 * rng.normal(size=600)[user]
        alarms["by user"] += ab_test(rate, arm, groups=user)[1].p_value < 0.05
        alarms["by row"] += ab_test(rate, arm)[1].p_value < 0.05
    assert alarms["by user"] <= 16
    assert alarms["by row"] >= 30


def test_users_with_one_row_each_are_as_rows() -> None:
    rng = np.random.default_rng(5)
    outcome, arm = (rng.random(500) < 0.2).astype(float), rng.integers(0, 2, 500)
    by_row, by_user = ab_test(outcome, arm), ab_test(outcome, arm, groups=rng.permutation(500))
    assert by_user.kind == "proportion"
    assert by_user[1][:-1] == pytest.approx(by_row[1][:-1])


def test_relative_effect_has_an_interval_that_covers() -> None:
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(500):
        arm = np.arange(2000) % 2
        result = ab_test(rng.exponential(1 + 0.2 * arm), arm)[1]
        hits += result.relative_low <= 0.2 <= result.relative_high
    assert 465 <= hits <= 485


def test_dunnett_holds_the_family_and_its_intervals_agree() -> None:
    rng = np.random.default_rng(7)
    false = 0
    for _ in range(200):
        result = ab_test(rng.normal(size=1000), np.arange(1000) % 5, correction="dunnett")
        assert all(
            (a.p_adjusted < 0.05) == (a.effect_low > 0 or a.effect_high < 0)
            for a in result.arms[1:]
        )
        false += any(a.p_adjusted < 0.05 for a in result.arms[1:])
    assert 2 <= false <= 20


def _blocks(n_blocks: int) -> list[AbRows]:
    rng = np.random.default_rng(8)
    blocks = []
    for b in range(n_blocks):
        n = int(rng.integers(0, 80))
        blocks.append(
            AbRows(
                rng.normal(50.0, 1.0, n),
                rng.integers(0, 3, n),
                covariate=rng.normal(size=(n, 2)),
                groups=rng.integers(0, 30, n) * 3 + b * 1000 + np.zeros(n, int),
            )
        )
    for block in blocks:  # one arm per user
        arm = np.asarray(block.groups) % 1000 // 3 % 3
        np.asarray(block.treatment)[:] = arm
    return blocks


def test_blocks_give_the_answer_of_all_rows_at_once() -> None:
    blocks = _blocks(37)
    rows = [
        np.concatenate([np.asarray(getattr(b, f)) for b in blocks])
        for f in ("outcome", "treatment", "covariate", "groups")
    ]
    want = ab_test(rows[0], rows[1], covariate=rows[2], groups=rows[3])
    found = ab_test_over_blocks(blocks, 3, SerialExecutor())
    for a, b in zip(want.arms[1:], found.arms[1:], strict=True):
        assert a[:-1] == pytest.approx(b[:-1], rel=1e-7, abs=1e-12)
    again = ab_test_over_blocks([lambda b=b: b for b in blocks], 3, SerialExecutor())
    assert again.arms[1:] == found.arms[1:]


def test_merge_is_the_same_tree_for_any_split_among_workers() -> None:
    leaves = [block_moments(b, 3) for b in _blocks(16)]
    whole = tree_reduce(leaves, merge_moments)
    by_two = merge_moments(
        tree_reduce(leaves[:8], merge_moments), tree_reduce(leaves[8:], merge_moments)
    )
    assert whole.scatter.tobytes() == by_two.scatter.tobytes()
    assert whole.mean.tobytes() == by_two.mean.tobytes()
    assert whole.third.tobytes() == by_two.third.tobytes()
    rows = [
        np.concatenate([np.asarray(getattr(b, f)) for b in _blocks(16)])
        for f in ("outcome", "treatment", "covariate", "groups")
    ]
    at_once = block_moments(AbRows(rows[0], rows[1], None, rows[2], rows[3]), 3)
    assert whole.third == pytest.approx(at_once.third, rel=1e-9, abs=1e-9)
    with pytest.raises(DataError, match="columns"):
        merge_moments(whole, block_moments(AbRows([1.0], [0]), 3))


def test_ratios_need_a_denominator_over_blocks_too() -> None:
    rows = AbRows(np.arange(8.0), np.arange(8) % 2)
    with pytest.raises(ConfigError, match="'ratio' needs a denominator"):
        ab_test(rows.outcome, rows.treatment, kind="ratio")
    with pytest.raises(ConfigError, match="'ratio' needs a denominator"):
        ab_test_over_blocks([rows], 2, SerialExecutor(), kind="ratio")


def test_denominators_that_sum_to_nothing_are_refused() -> None:
    arm, y = np.arange(400) % 2, np.arange(400.0)
    with pytest.raises(DataError, match="denominator: must sum to more than 0 in every arm"):
        ab_test(y, arm, denominator=np.zeros(400), kind="ratio")
    blocks = [AbRows(y, arm, np.zeros(400)), AbRows(y, arm, np.float64(arm))]
    with pytest.raises(DataError, match="denominator: must sum to more than 0 in every arm"):
        ab_test_over_blocks(blocks, 2, SerialExecutor())


@pytest.mark.parametrize(
    ("y", "kind", "text"),
    [
        ([0.0, 1.0, 2.0, 1.0], "proportion", "outcome: must be 0 or 1"),
        ([0.0, 1.0], "auto", "treatment: must hold 2 rows per arm; arm 0 has fewer"),
    ],
)
def test_blocks_are_refused_as_their_rows_would_be(y: list[float], kind: str, text: str) -> None:
    arm = np.arange(len(y)) % 2
    with pytest.raises(DataError, match=text):
        ab_test(y, arm, kind=kind)
    with pytest.raises(DataError, match=text):
        ab_test_over_blocks([AbRows(y, arm)], 2, SerialExecutor(), kind=kind)


def test_segments_without_outcome_count_in_the_effect_of_all() -> None:
    rng = np.random.default_rng(14)
    segment, arm = np.arange(4000) % 10, rng.integers(0, 2, 4000)
    y = ((segment == 0) & (rng.random(4000) < 0.2 + 0.4 * arm)).astype(float)
    found = effects_by_segment(y, arm, segment)
    assert found.effect[0] == pytest.approx(found.tests[0].arms[1].effect / 10)
    assert found.se[0] < 0.01


def test_unknown_segments_are_refused() -> None:
    segment = np.array([None, "a"] * 200, dtype=object)
    with pytest.raises(DataError, match="segment: must be known in every row; row 0"):
        effects_by_segment(np.ones(400), np.arange(400) % 2, segment)
