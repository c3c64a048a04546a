from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planted_trials import trial

from promo_ray.errors import ConfigError, DataError
from promo_ray.registry import methods
from promo_ray.response.additive import relevant, rows_per_user
from promo_ray.response.auto import Auto, slope_z
from promo_ray.response.boosting import Boosting
from promo_ray.response.features import Encoder
from promo_ray.response.outcome import fit_outcome
from promo_ray.response.response_models import RESPONSE_MODELS, response_scores
from promo_ray.response.stacking import stack_toward
from promo_ray.response.uplift_model import UpliftModel

LEARNERS = (
    "s", "t", "x", "r", "dr", "linear_dr", "class_transform", "forest", "moderated", "additive",
)  # fmt: skip
# class_transform divides whole outcomes by the shares, so its noise is several times larger.
WORST = {"class_transform": 1.3, "forest": 0.7, "s": 0.6}


def _flags(n: int, seed: int, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A trial with a 0/1 outcome: features, arm, outcome, true effect."""
    rng = np.random.default_rng(seed)
    x, arm = rng.normal(size=(n, 4)), rng.integers(0, 2, n)
    base = 1.0 / (1.0 + np.exp(1.0 - x[:, 1]))
    tilted = 1.0 / (1.0 + np.exp(0.2 - x[:, 1]))  # log-odds + 0.8 for everybody
    effect = {"dogs": 0.3 * np.tanh(x[:, 0]) * base, "flat": tilted - base}[kind]
    return x, arm, (rng.random(n) < base + arm * effect).astype(float), effect


def test_every_learner_is_registered() -> None:
    assert {*LEARNERS, "auto", "constant", "proportional"} <= set(methods("response"))


@pytest.mark.parametrize("learner", LEARNERS)
def test_learner_finds_planted_effects_of_two_arms(learner: str) -> None:
    data, fresh = trial(9000, 0), trial(2000, 1)
    model = UpliftModel(learner, n_folds=2)
    found = model.fit(data.x, data.arm, data.outcome, data.propensity).predict(fresh.x)
    assert found.shape == (2000, 3)
    assert (found[:, 0] == 0).all()
    error = np.sqrt(((found[:, 1] - fresh.effect[:, 0]) ** 2).mean())
    assert error < WORST.get(learner, 0.5)  # the effect has a standard deviation of 1
    assert found[:, 1].mean() == pytest.approx(fresh.effect[:, 0].mean(), abs=0.25)


def test_auto_ranks_sleeping_dogs_last_and_says_what_it_chose() -> None:
    x, arm, y, effect = _flags(8000, 2, "dogs")
    model = UpliftModel(n_folds=3).fit(x, arm, y, np.full(8000, 0.5))
    found = model.predict(x)[:, 1]
    assert np.corrcoef(found, effect)[0, 1] > 0.8
    assert effect[found > 0].sum() > 0.85 * effect[effect > 0].sum()
    assert model.choice.startswith("arm 1: average effect")
    assert 1.0 - model.stack[0]["proportional"] > model.stack[0]["proportional"]


def test_moderated_finds_one_shift_of_the_log_odds() -> None:
    x, arm, y, effect = _flags(8000, 11, "flat")
    found = UpliftModel("moderated", n_folds=2).fit(x, arm, y, np.full(8000, 0.5)).predict(x)[:, 1]
    assert np.corrcoef(found, effect)[0, 1] > 0.9
    assert np.sqrt(((found - effect) ** 2).mean()) < 0.025  # a third of the effect's size at most
    x, arm, y, effect = _flags(8000, 12, "dogs")
    found = UpliftModel("moderated", n_folds=2).fit(x, arm, y, np.full(8000, 0.5)).predict(x)[:, 1]
    assert np.corrcoef(found, effect)[0, 1] > 0.7  # proportional alone: 0


def test_additive_bends_and_leaves_out_what_has_no_say() -> None:
    rng = np.random.default_rng(14)
    x, arm = rng.normal(size=(6000, 30)), rng.integers(0, 2, 6000)
    effect = x[:, 0] ** 2 - 1.0  # no line finds it
    y = x[:, 1] + arm * effect + 3.0 * rng.normal(size=6000)
    model = UpliftModel("additive", n_folds=2).fit(x, arm, y, np.full(6000, 0.5))
    assert np.corrcoef(model.predict(x)[:, 1], effect)[0, 1] > 0.9
    moved = x.copy()
    moved[:, 2:] = rng.normal(size=(6000, 28))
    change = model.predict(moved)[:, 1] - model.predict(x)[:, 1]
    # 115 free coefficients would scatter by 6 sqrt(115 / 6000) = 0.83 around the effect.
    assert change.std() < 0.4


def test_additive_knows_no_effect_of_an_outcome_that_never_varies() -> None:
    rng = np.random.default_rng(15)
    x, arm = rng.normal(size=(500, 2)), rng.integers(0, 2, 500)
    for level in (0.0, 1.0):
        model = UpliftModel("additive", n_folds=2)
        model.fit(x, arm, np.full(500, level), np.full(500, 0.5))
        np.testing.assert_allclose(model.predict(x), 0.0, atol=1e-9)


def test_shrinkage_of_each_group_is_what_its_own_size_asks_for() -> None:
    n, size, noise = 1000.0, 200, 4.0
    rng = np.random.default_rng(16)
    spread = np.repeat([0.2, 0.05, 0.0], size)
    least_squares = spread * rng.normal(size=3 * size) + (noise / n) ** 0.5 * rng.normal(
        size=3 * size
    )
    group = np.repeat(np.arange(3), size)
    found, _ = relevant(n * np.eye(3 * size), n * least_squares, noise, group)
    for g in (0, 1):  # orthogonal columns: the evidence is largest at mean square - noise / n
        own = least_squares[group == g]
        left = 1.0 - noise / n / (own**2).mean()
        np.testing.assert_allclose(found[group == g], left * own, rtol=0.15)
    assert np.abs(found[group == 2]).max() < 0.25 * np.abs(least_squares[group == 2]).max()
    nothing = relevant(np.zeros((2, 2)), np.zeros(2), 1.0, np.zeros(2, dtype=np.int64))
    assert all((own == 0).all() for own in nothing)


def test_forest_of_a_few_rows_is_one_leaf() -> None:
    x, arm = np.arange(24.0)[:, None], np.arange(24) % 2
    effects = UpliftModel("forest", random_state=0).fit(x, arm, x[:, 0] % 5).predict(x)
    assert np.isfinite(effects).all()
    assert np.ptp(effects[:, 1]) < 1e-9


def test_forest_draws_from_the_seed_of_the_model() -> None:
    data = trial(1500, 13)
    args = (data.x, data.arm, data.outcome, data.propensity)
    first, same, other = (
        UpliftModel("forest", random_state=s, n_folds=2, n_trees=3).fit(*args).predict(data.x)
        for s in (1, 1, 2)
    )
    assert first.tobytes() == same.tobytes()
    assert not np.array_equal(first, other)


def test_auto_falls_back_to_the_average_without_heterogeneity() -> None:
    rng = np.random.default_rng(3)
    x, arm = rng.normal(size=(6000, 3)), rng.integers(0, 2, 6000)
    y = 5.0 + arm + rng.normal(size=6000)
    model = UpliftModel(n_folds=3, min_z=2.0).fit(x, arm, y, np.full(6000, 0.5))
    assert "no heterogeneity found" in model.choice
    found = model.predict(x)[:, 1]
    assert found.std() < 0.02
    assert found.mean() == pytest.approx(1.0, abs=0.08)


def test_intervals_hold_the_effect_and_shrink_with_the_level() -> None:
    data, fresh = trial(1500, 4), trial(300, 5)
    model = UpliftModel("linear_dr", n_folds=2)
    model.fit(data.x, data.arm, data.outcome, data.propensity)
    low, high = model.predict_interval(fresh.x)
    narrow_low, narrow_high = model.predict_interval(fresh.x, level=0.5)
    assert (low[:, 0] == 0).all()
    assert (high[:, 0] == 0).all()
    assert (low <= narrow_low).all()
    assert (narrow_high <= high).all()
    inside = (low[:, 1:] <= fresh.effect) & (fresh.effect <= high[:, 1:])
    assert inside.mean() > 0.93  # over users, not of each one
    again = UpliftModel("linear_dr", n_folds=2)
    again.fit(data.x, data.arm, data.outcome, data.propensity)
    assert again.predict_interval(fresh.x)[0].tobytes() == low.tobytes()
    with pytest.raises(ConfigError, match="level"):
        model.predict_interval(fresh.x, level=1.0)


@pytest.mark.parametrize("learner", ["t", "linear_dr", "constant"])
def test_row_weights_act_like_copies_of_rows(learner: str) -> None:
    """Copies of rows with x0 > 0 move the average as weights do."""
    data = trial(4000, 6)
    weight = np.where(data.x[:, 0] > 0, 3.0, 1.0)
    model = UpliftModel(learner, n_folds=2)
    args = (data.x, data.arm, data.outcome, data.propensity)
    weighted = model.fit(*args, sample_weight=weight).predict(data.x)
    rows = np.repeat(np.arange(4000), weight.astype(int))
    copied = UpliftModel(learner, n_folds=2).fit(*(a[rows] for a in args), groups=rows)
    gap = weighted[:, 1].mean() - copied.predict(data.x)[:, 1].mean()
    assert abs(gap) < 0.12
    if learner == "constant":
        assert weighted[0, 1] > 1.2  # unweighted it is 1


def test_texts_and_missing_values_carry_the_effect() -> None:
    rng = np.random.default_rng(7)
    n = 6000
    city = rng.choice(["a", "b", "c"], n)
    age = rng.normal(size=n)
    age[rng.random(n) < 0.3] = np.nan
    x = np.empty((n, 2), dtype=object)
    x[:, 0], x[:, 1] = city, age
    arm = rng.integers(0, 2, n)
    effect = 2.0 * (city == "a") + 1.0 * np.isnan(age)
    y = arm * effect + rng.normal(size=n)
    model = UpliftModel("t").fit(x, arm, y, np.full(n, 0.5))
    assert np.corrcoef(model.predict(x)[:, 1], effect)[0, 1] > 0.9


def test_encoder_keeps_columns_whatever_it_meets_later() -> None:
    encoder = Encoder.fit(np.array([["a", 1.0], ["b", None], ["a", 3.0]], dtype=object))
    found = encoder.transform(np.array([["new", None], ["a", 5.0]], dtype=object))
    np.testing.assert_array_equal(found, [[0, 0, 2, 1], [1, 0, 5, 0]])
    for bad in (np.zeros((2, 3)), np.array([["a", np.inf]], dtype=object)):
        with pytest.raises(DataError):
            encoder.transform(bad)


@pytest.mark.parametrize("kind", ["flag", "rare money", "number"])
def test_expected_outcome_takes_the_form_of_the_outcome(kind: str) -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(6000, 2))
    chance = 1.0 / (1.0 + np.exp(2.0 - x[:, 0]))
    buys = (rng.random(6000) < chance).astype(float)
    y, truth = {
        "flag": (buys, chance),
        "rare money": (buys * 20.0 * rng.exponential(size=6000), chance * 20.0),
        "number": (x[:, 0] + rng.normal(size=6000), x[:, 0]),
    }[kind]
    model = fit_outcome(x, y, np.ones(6000), Boosting())
    assert np.corrcoef(model.predict(x), truth)[0, 1] > 0.85
    assert model.predict(x).mean() == pytest.approx(truth.mean(), abs=0.1 * truth.std() + 0.05)
    assert (model.size is None) == (kind == "number")


def test_stack_lies_between_least_squares_and_the_prior() -> None:
    rng = np.random.default_rng(9)
    columns = rng.normal(size=(500, 2))
    columns -= columns.mean(axis=0)
    target = columns @ np.array([0.8, 0.1]) + 0.1 * rng.normal(size=500)
    ones, prior = np.ones(500), np.array([0.5, 0.5])
    free = stack_toward(columns, target, ones, prior, 0.0)
    np.testing.assert_allclose(free, np.linalg.lstsq(columns, target)[0], atol=1e-9)
    np.testing.assert_allclose(stack_toward(columns, target, ones, prior, 1e9), prior, atol=1e-6)


def test_evidence_of_a_slope_counts_users_not_rows() -> None:
    rng = np.random.default_rng(9)
    column, noise = rng.normal(size=(2, 500))
    ones, user = np.ones(500), np.arange(500)
    once = slope_z(column, column + noise, ones, user)
    assert once > 10
    side = column * (column + noise - column * (column @ (column + noise)) / (column @ column))
    assert once == pytest.approx(column @ (column + noise) / np.sqrt(side @ side))
    often = [np.repeat(values, 10) for values in (column, column + noise, ones, user)]
    assert slope_z(*often) == pytest.approx(once)
    assert slope_z(np.zeros(500), noise, ones, user) == 0.0


@pytest.mark.parametrize(
    "bad",
    [{"candidates": ("auto",), "prior": (1.0,)}, {"prior": (1.0,)}, {"pull": -1.0}],
)
def test_auto_refuses_bad_settings(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Auto(**bad)


@pytest.mark.parametrize("is_binary", [True, False])
def test_response_models_rank_buyers_out_of_fold(is_binary: bool) -> None:
    rng = np.random.default_rng(10)
    x = rng.normal(size=(1500, 3))
    y = 2.0 * x[:, 0] + rng.normal(size=1500) - 1.0
    if is_binary:
        y = (y > 0).astype(float)
    found = response_scores(x, y, n_folds=2)
    assert [own.model for own in found] == list(RESPONSE_MODELS)
    for own in found:
        assert own.auc > 0.85, own.model
        assert 0.6 < own.f1 <= 1, own.model
        assert own.accuracy > 0.7, own.model
        assert np.isnan(own.mse) == (own.model == "svm" and is_binary)
    with pytest.raises(ConfigError, match="oracle"):
        response_scores(x, y, models=("oracle",))
    with pytest.raises(DataError, match="vary"):
        response_scores(x, np.ones(1500))


def test_bad_row_weights_are_refused() -> None:
    data = trial(300, 0)
    with pytest.raises(DataError) as caught:
        UpliftModel("t").fit(data.x, data.arm, data.outcome, sample_weight=np.zeros(300))
    assert caught.value.where == "sample_weight"


def test_rows_of_a_user_that_are_alike_tell_as_much_as_one() -> None:
    target = np.random.default_rng(17).normal(size=(50, 2))
    user, four = np.arange(50), np.repeat(np.arange(50), 4)
    np.testing.assert_allclose(rows_per_user(target[four], np.ones(200), four), 4.0)
    np.testing.assert_allclose(rows_per_user(target, np.ones(50), user), 1.0)
    both = np.concatenate([target, -target])  # a user's rows that cancel tell no less than others
    np.testing.assert_allclose(rows_per_user(both, np.ones(100), np.concatenate([user, user])), 1.0)
