from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from promo_ray.bench.ope_logs import SETTINGS, CoverageWorld, draw_setting
from promo_ray.errors import DataError
from promo_ray.evaluation import (
    LogBlock,
    compare_policies,
    lower_bound,
    policy_value,
    release_gate,
    stream_policy_value,
)
from promo_ray.evaluation.betting_bound import _Bets, _largest_refuted, _Users
from promo_ray.evaluation.checks import Check
from promo_ray.evaluation.off_policy_log import log_moments, log_rows, user_order
from promo_ray.evaluation.off_policy_moments import CUTS, cut_weights
from promo_ray.evaluation.off_policy_path import path_value
from promo_ray.evaluation.policy_value import METHODS

DATA = Path(os.environ.get("PROMO_RAY_DATA", Path(__file__).parents[3] / "shared" / "data"))


def _log(n: int, n_arms: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    chance = rng.dirichlet(np.full(n_arms, 3.0), n)
    action = (rng.random(n)[:, None] > chance.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return {
        "policy_probs": rng.dirichlet(np.full(n_arms, 2.0), n),
        "action": action,
        "reward": rng.random(n) * (1 + action),
        "propensity": chance[np.arange(n), action],
        "q_hat": rng.random((n, n_arms)) + 0.5,
    }


def test_cut_methods_follow_their_formulas() -> None:
    log = _log(600, 4)
    rows = np.arange(600)
    weight = log["policy_probs"][rows, log["action"]] / log["propensity"]
    gap = log["reward"] - log["q_hat"][rows, log["action"]]
    model = (log["policy_probs"] * log["q_hat"]).sum(axis=1).mean()
    for method, kind in (("clipped_dr", "clip"), ("switch_dr", "switch"), ("dros", "shrink")):
        smaller = [cut_weights(weight, cut, kind) for cut in CUTS] + [weight]
        want = [model + (w * gap).mean() for w in smaller]
        found = policy_value(**log, method=method).value
        assert np.abs(np.array(want) - found).min() < 1e-9, method
    ratio = [
        (w * log["reward"]).sum() / w.sum()
        for w in [*(np.minimum(weight, cut) for cut in CUTS), weight]
    ]
    found = policy_value(**log, method="clipped_snips").value
    assert np.abs(np.array(ratio) - found).min() < 1e-9


def test_calibrated_model_is_the_regression_of_least_variance() -> None:
    log = _log(800, 3, 1)
    rows = np.arange(800)
    weight = log["policy_probs"][rows, log["action"]] / log["propensity"]
    controls = np.column_stack(
        [
            weight - 1.0,
            weight * log["q_hat"][rows, log["action"]]
            - (log["policy_probs"] * log["q_hat"]).sum(axis=1),
        ]
    )
    gains = weight * log["reward"]
    fitted = np.linalg.lstsq(controls - controls.mean(axis=0), gains - gains.mean(), rcond=None)[0]
    want = gains - controls @ fitted
    found = policy_value(**log, method="mrdr")
    assert found.value == pytest.approx(want.mean())
    assert found.se == pytest.approx(want.std(ddof=1) / 800**0.5, rel=0.01)
    for other in ("ips", "snips", "dr", "sndr"):
        assert found.se < 1.02 * policy_value(**log, method=other).se


@pytest.mark.parametrize("method", METHODS)
def test_blocks_give_what_the_whole_log_gives(method: str) -> None:
    log = _log(900, 4, 2)
    users = np.arange(900) // 3
    whole = policy_value(**log, groups=users, method=method)

    def shard(first: int, last: int) -> Iterator[LogBlock]:
        for start in range(first, last, 150):
            part = slice(start, start + 150)
            yield LogBlock(**{k: v[part] for k, v in log.items()}, groups=users[part])

    shards = [lambda a=a, b=b: shard(a, b) for a, b in ((0, 450), (450, 600), (600, 900))]
    found = stream_policy_value(shards, method)
    assert found.method == whole.method
    np.testing.assert_allclose(found[:6], whole[:6], rtol=1e-9)


def test_streams_compare_policies_too() -> None:
    log = _log(600, 3, 3)
    other = _log(600, 3, 4)["policy_probs"]
    one = compare_policies(**log, other_probs=other)
    found = stream_policy_value([lambda: [LogBlock(**log, other_probs=other)]])
    assert found == one


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_forms_of_a_policy_say_the_same(seed: int) -> None:
    log = _log(200, 5, seed)
    chosen = np.random.default_rng(seed).integers(0, 5, 200)
    rest = {k: v for k, v in log.items() if k != "policy_probs"}
    forms: list[Any] = [np.eye(5)[chosen], sparse.csr_array(np.eye(5)[chosen]), chosen]
    found = [policy_value(form, **rest) for form in forms]
    assert found[0] == found[1] == found[2]


def test_against_the_log_is_the_difference_to_its_mean() -> None:
    log = _log(700, 3, 5)
    del log["q_hat"]
    for method in ("dr", "snips", "mrdr"):
        found = compare_policies(**log, other_probs=None, method=method)
        own = policy_value(**log, method=method)
        assert found.value == pytest.approx(own.value - log["reward"].mean())


def test_verdicts_are_withheld_with_the_reason() -> None:
    log = _log(2000, 3, 6)
    args = {k: v for k, v in log.items() if k != "propensity"}
    unknown = policy_value(**args, propensity=None)
    assert np.isnan(unknown.value)
    assert "propensities are missing in 2000 of 2000" in unknown.withheld
    some = log["propensity"].copy()
    some[7] = np.nan
    partly = policy_value(**args, propensity=some)
    assert "missing in 1 of 2000" in partly.withheld
    assert (partly.low, partly.high) == (-np.inf, np.inf)
    few = policy_value(**{k: v[:60] for k, v in log.items()})
    assert "effective sample size must be at least 100" in few.withheld
    never = np.zeros(2000, dtype=int)
    nowhere = policy_value(never, log["action"].clip(1), log["reward"], log["propensity"])
    assert nowhere.withheld.startswith("no overlap")
    wrong = policy_value(**args, propensity=log["propensity"] * 0.5)
    assert "mean importance weight must be near 1" in wrong.withheld
    assert policy_value(**log).withheld == ""
    none = policy_value(**{**log, "reward": np.zeros(2000)})
    assert (none.low, none.high) == (-np.inf, np.inf)
    assert none.withheld.startswith("all rewards are 0: ")
    assert lower_bound(**args, propensity=None).withheld


def test_difference_on_few_rows_is_withheld() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    action, old = rng.integers(0, 2, n), np.zeros(n, int)
    reward, chance = action + rng.normal(size=n), np.full(n, 0.5)
    new = old.copy()
    new[:40] = 1
    found = release_gate(new, old, action, reward, chance)
    assert not found.is_released
    assert "at least 100 where the policies differ; got 40" in found.gain.withheld
    new[:400] = 1
    assert compare_policies(new, old, action, reward, chance).withheld == ""
    assert compare_policies(old, old, action, reward, chance).low == 0.0


def test_few_users_are_withheld_however_many_their_rows() -> None:
    rng = np.random.default_rng(0)
    n = 4000
    action, ones = rng.integers(0, 2, n), np.ones(n, int)
    reward, chance = action + rng.normal(size=n), np.full(n, 0.5)
    many, few = rng.integers(0, 1000, n), rng.integers(0, 50, n)
    some = np.where(rng.random(n) < 0.9, few, many + 50)  # nearly all rows of 50 users
    for users in (few, some):
        found = release_gate(ones, 0 * ones, action, reward, chance, groups=users)
        assert "effective sample size must be at least 100" in found.reason
        assert policy_value(ones, action, reward, chance, groups=users).withheld
        blocks = [LogBlock(ones, action, reward, chance, groups=users, other_probs=0 * ones)]
        assert stream_policy_value([partial(list, blocks)]).withheld
    assert release_gate(ones, 0 * ones, action, reward, chance, groups=many).is_released


def test_gate_releases_only_what_is_shown_to_be_better() -> None:
    rng = np.random.default_rng(7)
    n = 20_000
    action, chance = rng.integers(0, 2, n), np.full(n, 0.5)
    reward = (rng.random(n) < 0.1 + 0.05 * action).astype(float)
    ones, zeros = np.ones(n, int), np.zeros(n, int)
    assert release_gate(ones, zeros, action, reward, chance).is_released
    assert release_gate(ones, None, action, reward, chance).is_released
    assert not release_gate(zeros, ones, action, reward, chance).is_released
    assert not release_gate(ones, ones, action, reward, chance).is_released
    assert not release_gate(ones, zeros, action, reward, chance, least_gain=0.2).is_released
    alarm = Check("sample_ratio", False, 0.0, 1e-3, "arms hold too few users")
    held = release_gate(ones, zeros, action, reward, chance, checks=[alarm])
    assert (held.is_released, held.reason) == (False, "withheld: arms hold too few users")
    log = (ones, action, reward, chance)
    found = policy_value(*log, checks=[alarm])
    assert (found.withheld, found.low, found.high) == (alarm.detail, -np.inf, np.inf)
    assert compare_policies(ones, zeros, *log[1:], checks=[alarm]).withheld == alarm.detail
    assert not release_gate(ones, zeros, action, reward, None).is_released


def test_interval_stays_open_when_no_event_was_seen() -> None:
    n = 1000
    action = np.arange(n) % 2
    reward = ((action == 0) & (np.arange(n) % 50 == 0)).astype(float)
    found = policy_value(np.ones(n, int), action, reward, np.full(n, 0.5))
    assert found.value == pytest.approx(0.0, abs=1e-3)
    assert 2.5 / 500 < found.high < 5.0 / 500  # the rule of three, two-sided


def test_interval_stays_open_when_no_failure_was_seen() -> None:
    n = 1000
    action = np.arange(n) % 2
    reward = (action == 1).astype(float)  # half of the log, but all that the policy does
    found = policy_value(np.ones(n, int), action, reward, np.full(n, 0.5))
    assert found.value == pytest.approx(1.0, abs=1e-3)
    assert 2.5 / 500 < 1.0 - found.low < 5.0 / 500


@pytest.mark.parametrize("of_arm", [(2.0, 1.0), (0.0, 1.0), (0.0, 0.0)])
def test_rewards_that_do_not_vary_have_an_automatic_value(of_arm: tuple[float, float]) -> None:
    for seed in range(20):
        action = np.random.default_rng(seed).integers(0, 2, 3000)
        reward, chance = np.array(of_arm)[action], np.full(3000, 0.5)
        for arm in (0, 1):
            found = policy_value(np.full(3000, arm), action, reward, chance)
            assert found.value == pytest.approx(of_arm[arm], abs=1e-4)
            assert found.low <= of_arm[arm] + 1e-4
            assert found.high >= of_arm[arm] - 1e-4


@pytest.mark.parametrize(("n_arms", "rate"), [(2, 0.1), (10, 0.8)])
def test_intervals_cover(n_arms: int, rate: float) -> None:
    world = CoverageWorld(n_arms, rate)
    value, difference, _, _ = world.truth()
    hits = []
    for seed in range(100):
        log, other = world.draw(2000, seed)
        own = policy_value(**log.arguments)
        gap = compare_policies(**log.arguments, other_probs=other)
        hits.append([own.low <= value <= own.high, gap.low <= difference <= gap.high])
    assert (np.mean(hits, axis=0) > 0.88).all()


def test_automatic_choice_is_near_the_best_method() -> None:
    setting = SETTINGS[0]
    errors: dict[str, list[float]] = {m: [] for m in ("auto", "dm", "ips", "snips", "dr", "mrdr")}
    for seed in range(40):
        log = draw_setting(setting, seed)
        for method, found in errors.items():
            estimate = policy_value(**log.arguments, q_hat=log.q_hat, method=method)
            found.append(estimate.value - log.truth)
    rms = {m: float(np.sqrt(np.mean(np.square(e)))) for m, e in errors.items()}
    assert rms["auto"] < 1.2 * min(rms.values())


def test_automatic_choice_follows_the_cuts_to_where_nothing_is_cut() -> None:
    setting = SETTINGS[2]  # weights up to hundreds, which little cuts make precise
    errors: dict[str, list[float]] = {m: [] for m in ("auto", "mrdr", "clipped_snips")}
    for seed in range(20):
        log = draw_setting(setting, seed)
        for method, found in errors.items():
            estimate = policy_value(**log.arguments, q_hat=log.q_hat, method=method)
            found.append(estimate.value - log.truth)
    rms = {m: float(np.sqrt(np.mean(np.square(e)))) for m, e in errors.items()}
    assert rms["auto"] < 1.1 * rms["clipped_snips"]
    assert rms["auto"] < 0.8 * rms["mrdr"]


def test_paths_of_one_weight_end_where_they_begin() -> None:
    n = 3000
    rng = np.random.default_rng(11)
    action, chance = rng.integers(0, 4, n), np.full(n, 0.25)
    reward = rng.random(n) * (1 + action)
    target = rng.integers(0, 4, n)  # weights 0 and 4: every cut is the same estimate
    moments = log_moments((target,), action, reward, chance)
    found = path_value(moments, 0, has_model=False)
    assert found.value == pytest.approx(reward[action == target].mean(), rel=1e-6)
    sandwich = float(np.sqrt(found.influence @ moments.second @ found.influence)) / n
    assert np.sqrt(found.variance) == pytest.approx(sandwich, rel=0.01)


def test_wrong_model_does_not_mislead_the_automatic_choice() -> None:
    log = _log(4000, 3, 8)
    good = policy_value(**log, method="dr")
    log["q_hat"] = log["q_hat"] - 30.0
    found = policy_value(**log)
    assert abs(found.value - good.value) < 4 * good.se


def test_lower_bound_holds_and_is_narrower_than_bernstein() -> None:
    setting = SETTINGS[0]
    above, ratios = 0, []
    for seed in range(30):
        log = draw_setting(setting, seed)
        found = lower_bound(**log.arguments, q_hat=log.q_hat)
        above += found.low > log.truth
        weight = log.policy[np.arange(setting.n), log.action] / log.propensity
        gains = weight * log.reward
        term = np.log(2 / 0.05)
        half = 7 * weight.max() * term / (3 * (setting.n - 1))
        half += np.sqrt(2 * term * gains.var(ddof=1) / setting.n)
        ratios.append((log.truth - found.low) / (2 * half))
    assert above <= 2
    assert np.mean(ratios) < 0.25


def test_lower_bound_knows_the_ceiling_of_each_row() -> None:
    log = _log(400, 3, 12)
    full = np.random.default_rng(12).dirichlet(np.full(3, 3.0), 400)
    probs = log["policy_probs"]
    rest = {k: v for k, v in log.items() if k not in ("policy_probs", "propensity")}
    forms: list[Any] = [probs, sparse.csr_array(probs)]
    found = [lower_bound(form, propensity=full, **rest).low for form in forms]
    assert found[0] == found[1]
    assert found[0] >= lower_bound(probs, propensity=full, max_weight=1e6, **rest).low
    rows = np.arange(400)
    arms = rest["action"]
    own = full[rows, arms]
    known = [lower_bound(p, propensity=own, **rest).low for p in (np.eye(3)[arms], arms)]
    assert known[0] == known[1]


def _thrice(log: dict[str, Any]) -> dict[str, Any]:
    return {k: np.repeat(v, 3, axis=0) for k, v in log.items()}


@pytest.mark.parametrize("has_features", [False, True])
def test_model_of_the_bound_knows_nothing_of_users_to_come(has_features: bool) -> None:
    n, rng = 600, np.random.default_rng(4)
    user = rng.permutation(np.arange(n) % 200)
    x = rng.normal(size=(n, 2)) if has_features else None
    action, chance = rng.integers(0, 3, n), np.full(n, 1 / 3)
    policy, reward = np.full((n, 3), 1 / 3), rng.random(n)

    def predicted(reward: np.ndarray) -> np.ndarray:
        rows = log_rows(
            (policy,), action, reward, chance, x, None, True, user, 0, is_sequential=True
        )  # fmt: skip
        return rows.sides[0].model

    place = np.argsort(user_order(200, 0))[user]
    before = predicted(reward)
    assert (before[place < 3] == 0).all()
    for cut in (4, 40, 90, 150):
        after = predicted(np.where(place >= cut, reward + 5.0, reward))
        assert (after[place <= cut] == before[place <= cut]).all()
    assert (after != before).any() == (cut < 100)


def test_evidence_once_enough_rules_a_value_out_whatever_comes_later() -> None:
    n, later = 50, np.zeros(5)
    column = np.concatenate([np.ones(n), later])
    zero, one = np.zeros(n + len(later)), np.ones(n + len(later))
    users = _Users(one, column, zero, zero, zero, one, zero, zero)
    bound = _largest_refuted(users, _Bets(zero, zero, 0.5 * one), float(np.log(20.0)))
    assert bound == pytest.approx(1.0 - 2.0 * (20.0 ** (1.0 / n) - 1.0), abs=1e-9)


def test_lower_bound_counts_a_user_once() -> None:
    log = _log(300, 2, 9)
    once = lower_bound(**log)
    users = np.repeat(np.arange(300), 3)
    thrice = lower_bound(**_thrice(log), groups=users)
    assert thrice.low == pytest.approx(once.low, rel=0.05)
    assert once.low < once.value


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"least_reward": 0.5}, "reward"),
        ({"max_weight": 0.1}, "max_weight"),
        ({"max_weight": float("nan")}, "max_weight"),
    ],
)
def test_lower_bound_names_what_it_refuses(change: dict[str, Any], where: str) -> None:
    with pytest.raises(DataError) as caught:
        lower_bound(**_log(300, 2, 10), **change)
    assert caught.value.where == where


@pytest.mark.skipif(not (DATA / "open_bandit_small").is_dir(), reason="open_bandit_small is absent")
@pytest.mark.parametrize("campaign", ["men", "women"])
def test_open_bandit_log_values_the_policy_that_was_tested_beside_it(campaign: str) -> None:
    logged, tested = (
        pq.read_table(DATA / "open_bandit_small" / f"{name}_{campaign}.parquet")
        for name in ("random", "bts")
    )
    action = logged["item_id"].to_numpy().astype(int)
    n_items = int(max(action.max(), tested["item_id"].to_numpy().max())) + 1
    shown = np.bincount(tested["item_id"].to_numpy().astype(int), minlength=n_items)
    policy = np.broadcast_to(shown / shown.sum(), (len(action), n_items))
    clicks = logged["click"].to_numpy().astype(float)
    chance = logged["propensity_score"].to_numpy()
    found = policy_value(policy, action, clicks, chance)
    assert found.withheld == ""
    assert found.low <= tested["click"].to_numpy().mean() <= found.high  # 12-15 % of itself, as is
    assert lower_bound(policy, action, clicks, chance).low < found.value


@pytest.mark.parametrize("form", ["dense", "sparse", "arms"])
def test_a_policy_on_arms_that_the_log_could_not_give_is_withheld(form: str) -> None:
    n, rng = 20_000, np.random.default_rng(12)
    action, reward = rng.integers(0, 2, n), (rng.random(n) < 0.3).astype(float)
    probs = np.tile([0.499, 0.499, 0.002], (n, 1))
    policy = {"dense": probs, "sparse": sparse.csr_array(probs), "arms": np.full(n, 2)}[form]
    log = (policy, action, reward, np.tile([0.5, 0.5, 0.0], (n, 1)))
    for found in (policy_value(*log), lower_bound(*log)):
        assert "no overlap: in 20000 of 20000 rows" in found.withheld
        assert found.low == -np.inf
    old = np.tile([0.5, 0.5, 0.0], (n, 1))
    assert not release_gate(*log[:1], old, *log[1:]).is_released


def test_bound_and_gate_refuse_what_chances_of_taken_arms_cannot_reach() -> None:
    n, rng = 20_000, np.random.default_rng(13)
    action, reward = rng.integers(0, 2, n), (rng.random(n) < 0.3).astype(float)
    policy = np.tile([0.48, 0.48, 0.04], (n, 1))
    log = (policy, action, reward, np.full(n, 0.5))
    for found in (policy_value(*log), lower_bound(*log)):
        assert "no overlap: the mean importance weight" in found.withheld
