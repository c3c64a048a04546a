from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from planted_trials import trial

from promo_ray.errors import ConfigError, DataError
from promo_ray.evaluation.curves import qini
from promo_ray.registry import methods
from promo_ray.response.dr_learner import ArmEffects, DrLearner
from promo_ray.response.trial import check_trial, folds_of
from promo_ray.response.uplift_model import UpliftModel

DATA = Path(os.environ.get("PROMO_RAY_DATA", Path(__file__).parents[3] / "shared" / "data"))


def test_dr_is_a_registered_learner() -> None:
    assert methods("response")["dr"] is DrLearner


def test_planted_effects_are_found() -> None:
    data, fresh = trial(12_000, 0), trial(4000, 1)
    found = UpliftModel("dr").fit(data.x, data.arm, data.outcome, data.propensity).predict(fresh.x)
    assert found.shape == (4000, 3)
    assert (found[:, 0] == 0).all()
    error = np.sqrt(((found[:, 1] - fresh.effect[:, 0]) ** 2).mean())
    assert error < 0.35  # the effect has a standard deviation of 1
    assert np.abs(found[:, 2] - 0.5).mean() < 0.15


def test_without_heterogeneity_the_effect_is_nearly_constant() -> None:
    data = trial(8000, 3, slope=0.0)
    model = UpliftModel("dr").fit(data.x, data.arm, data.outcome, data.propensity)
    found = model.predict(data.x)[:, 1:]
    assert found.std(axis=0).max() < 0.12
    np.testing.assert_allclose(found.mean(axis=0), [1.0, 0.5], atol=0.12)


def test_confounded_log_is_corrected_by_known_and_by_estimated_propensity() -> None:
    data = trial(8000, 4, confounding=0.8)
    naive = data.outcome[data.arm == 1].mean() - data.outcome[data.arm == 0].mean()
    assert abs(naive - 1.0) > 0.5
    for propensity in (data.propensity, None):
        model = UpliftModel("dr").fit(data.x, data.arm, data.outcome, propensity)
        assert model.predict(data.x)[:, 1].mean() == pytest.approx(1.0, abs=0.15)


def test_cost_is_taken_off_the_gross_effect() -> None:
    data = trial(12_000, 6)
    cost = np.where(data.arm == 2, 0.4, 0.0)
    model = UpliftModel("dr").fit(data.x, data.arm, data.outcome - cost, data.propensity, cost=cost)
    assert model.predict_cost(data.x)[:, 2].mean() == pytest.approx(0.4, abs=0.02)
    assert model.predict(data.x)[:, 2].mean() == pytest.approx(0.1, abs=0.12)


def _noisy_cost(seed: int, n: int, n_arms: int) -> tuple[UpliftModel, Any]:
    """A fit on discounts that are noise, and fresh features; both arms earn 1 for everybody."""
    rng = np.random.default_rng(seed)
    x, arm = rng.normal(size=(n, 3)), rng.integers(0, n_arms, n)
    cost = np.where(arm > 0, rng.gamma(0.3, 10.0, n), 0.0)
    y = 0.1 * rng.normal(size=n) + np.where(arm > 0, 4.0, 0.0) - cost
    model = UpliftModel("constant", n_folds=2)
    model.fit(x, arm, y, np.full(n, 1 / n_arms), cost=cost)
    return model, rng.normal(size=(200, 3))


def test_interval_holds_the_error_of_the_expected_discount() -> None:
    held = []
    for seed in range(3):
        model, fresh = _noisy_cost(seed, 800, 2)
        low, high = model.predict_interval(fresh)
        held.append(((low <= 1.0) & (high >= 1.0))[:, 1].mean())
    assert np.mean(held) > 0.8


def test_rule_is_not_led_by_discounts_of_its_own_rows() -> None:
    left = [np.isfinite(_noisy_cost(seed, 1200, 3)[0].rule().threshold) for seed in range(4)]
    assert sum(left) <= 1


@pytest.mark.parametrize("n_events", [1, 4])
def test_auto_stands_outcomes_that_hardly_ever_happen(n_events: int) -> None:
    rng = np.random.default_rng(1)
    x, arm = rng.normal(size=(600, 3)), rng.integers(0, 3, 600)
    y = np.zeros(600)
    y[:n_events] = 1.0
    model = UpliftModel("auto", n_folds=3).fit(x, arm, y, np.full(600, 1 / 3))
    assert np.isfinite(model.predict(x)).all()
    refit = np.stack([model._half(model._fitted(), b).effects.predict(x) for b in range(2)])
    assert np.isfinite(refit).all()


def test_halves_hold_every_arm_or_are_refused_in_one_line() -> None:
    rng = np.random.default_rng(2)
    x, arm = rng.normal(size=(200, 2)), np.zeros(200, np.int64)
    arm[:4] = 1
    model = UpliftModel("constant", n_folds=2).fit(x, arm, x[:, 0], np.full(200, 0.5))
    low, high = model.predict_interval(x[:3])
    assert np.isfinite(low).all()
    assert (high[:, 1] > low[:, 1]).all()
    fitted = model._fitted()
    alone = fitted._replace(trial=fitted.trial._replace(arm=(np.arange(200) == 0).astype(int)))
    with pytest.raises(DataError, match="treatment: must hold every arm in more users"):
        model._half(alone, 0)


@pytest.mark.parametrize("propensity", [None, np.full(200, 0.5)])
def test_a_fold_that_holds_all_users_of_an_arm_is_refused(propensity: np.ndarray | None) -> None:
    x = np.random.default_rng(0).normal(size=(200, 2))
    arm, groups = np.arange(200) % 2, np.where(np.arange(200) % 2, np.arange(200), 0)
    model = UpliftModel("constant")
    with pytest.raises(DataError, match="every arm outside each fold of users; arm 0"):
        model.fit(x, arm, x[:, 0], propensity, groups=groups)


def test_same_seed_same_bits_and_order_of_rows_does_not_matter_for_folds() -> None:
    data = trial(2000, 7)
    args = (data.x, data.arm, data.outcome, data.propensity)
    first = UpliftModel("dr", random_state=3).fit(*args).predict(data.x)
    assert UpliftModel("dr", random_state=3).fit(*args).predict(data.x).tobytes() == first.tobytes()
    assert not np.array_equal(UpliftModel("dr", random_state=4).fit(*args).predict(data.x), first)


def test_boosted_candidate_takes_over_where_the_effect_is_no_line() -> None:
    rng = np.random.default_rng(8)
    x, arm = rng.normal(size=(12_000, 3)), rng.integers(0, 2, 12_000)
    effect = 3.0 * (np.abs(x[:, 0]) < 0.7)
    outcome = 10.0 + arm * effect + rng.normal(size=12_000)
    model = UpliftModel("dr").fit(x, arm, outcome, np.full(12_000, 0.5))
    assert model.stack[0]["boosted"] > 0.7
    assert np.corrcoef(model.predict(x)[:, 1], effect)[0, 1] > 0.9


def test_arms_survive_a_round_trip_bit_by_bit() -> None:
    data = trial(4000, 9)
    rows = check_trial(data.x, data.arm, data.outcome, data.propensity)
    effects = DrLearner(min_boosted_rows=100).fit(rows).effects
    again = ArmEffects.from_arrays(effects.to_arrays("a."), "a.")
    assert again.predict(data.x).tobytes() == effects.predict(data.x).tobytes()


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"x": np.full((300, 4), np.nan)}, "x"),
        ({"treatment": np.full(300, 0)}, "treatment"),
        ({"treatment": np.arange(300)[:299] % 2}, "treatment"),
        ({"treatment": np.arange(300) % 2 * 2}, "treatment"),
        ({"outcome": np.full(300, np.inf)}, "outcome"),
        ({"propensity": np.zeros(300)}, "propensity"),
        ({"propensity": np.full(300, 1.5)}, "propensity"),
        ({"propensity": np.full(300, np.nan)}, "propensity"),
        ({"propensity": np.tile([0.5, 0.5, 0.0], (300, 1))}, "propensity"),
        ({"cost": np.full(300, np.nan)}, "cost"),
        ({"groups": ["a", "b"]}, "groups"),
    ],
)
def test_bad_input_names_its_argument(change: dict[str, Any], where: str) -> None:
    data = trial(300, 0)
    good = {
        "x": data.x,
        "treatment": data.arm,
        "outcome": data.outcome,
        "propensity": data.propensity,
    }
    with pytest.raises(DataError) as caught:
        UpliftModel("dr").fit(**(good | change))
    assert caught.value.where == where


def test_unknown_learner_is_refused_and_fit_comes_first() -> None:
    data = trial(300, 0)
    with pytest.raises(ConfigError, match="dr"):
        UpliftModel(learner="magic").fit(data.x, data.arm, data.outcome)
    with pytest.raises(DataError, match="fit must be called"):
        UpliftModel("dr").predict(data.x)


def _hillstrom() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    file = DATA / "hillstrom" / "hillstrom.parquet"
    if not file.exists():
        pytest.skip(f"real trial is not at {file}")
    data = pq.read_table(file).to_pydict()
    levels = {"No E-Mail": 0, "Mens E-Mail": 1, "Womens E-Mail": 2}
    arm = np.array([levels[s] for s in data["segment"]])
    numbers = [np.array(data[c], float) for c in ("recency", "history", "mens", "womens", "newbie")]
    flags = [
        np.array([v == level for v in data[c]], float)
        for c in ("zip_code", "channel")
        for level in sorted(set(data[c]))
    ]
    x = np.column_stack([*numbers, *flags])
    return x, arm, np.array(data["visit"], float), np.array(data["row_id"])


@pytest.mark.slow
def test_real_trial_is_ranked_better_than_by_chance() -> None:
    x, arm, visit, rows = _hillstrom()
    shares = np.bincount(arm) / len(arm)
    folds = folds_of(rows, len(arm), 3, 0)
    score = np.empty((len(arm), 3))
    for fold in range(3):
        own = folds == fold
        model = UpliftModel("dr").fit(
            x[~own], arm[~own], visit[~own], shares[arm[~own]], groups=rows[~own]
        )
        score[own] = model.predict(x[own])
        score[own] -= score[own].mean(axis=0)  # folds differ in level
    for offer, least in ((1, 1e-3), (2, 5e-3)):
        inside = (arm == 0) | (arm == offer)
        found = qini(score[inside, offer], arm[inside] == offer, visit[inside], n_boot=100)
        assert found.value > least
        assert offer == 1 or found.low > 0


def test_interval_holds_effects_that_the_learner_cannot_express() -> None:
    rng = np.random.default_rng(21)
    x, arm = rng.normal(size=(4000, 3)), rng.integers(0, 2, 4000)
    chance, reaction = np.full(4000, 0.5), x[:, 0] + np.abs(x[:, 1])
    widths = []
    for effect in (reaction, np.full(4000, reaction.mean())):
        y = x[:, 2] + arm * effect + rng.normal(size=4000)
        model = UpliftModel("constant", n_folds=2).fit(x, arm, y, chance)
        low, high = model.predict_interval(x)
        assert ((low[:, 1] <= effect) & (effect <= high[:, 1])).mean() > 0.9
        assert (high[:, 0] == 0.0).all()
        widths.append(float((high - low)[:, 1].mean()))
    assert widths[0] > 2 * 1.96 * reaction.std() * 0.9
    assert widths[1] < 0.4 * widths[0]


@pytest.mark.parametrize("of_arms", [[0.0, -1.0], [1.0, 1.0]])
def test_costs_below_zero_or_of_control_are_refused(of_arms: list[float]) -> None:
    x, arm = np.random.default_rng(0).normal(size=(60, 1)), np.arange(60) % 2
    cost = np.array(of_arms)[arm]
    with pytest.raises(DataError, match="cost: must be >= 0, and 0 in control"):
        UpliftModel("constant").fit(x, arm, x[:, 0], cost=cost)


def test_columns_are_known_by_name_and_numbers_beside_texts_stay_numbers() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"a": rng.normal(size=80), "b": rng.choice(["u", "v"], 80)})
    arm, y = np.arange(80) % 2, frame["a"].to_numpy()
    model = UpliftModel("t").fit(frame, arm, y)
    with pytest.raises(DataError, match="x: must have the columns a, b; got b, a"):
        model.predict(frame[["b", "a"]])
    rows = frame.to_numpy(dtype=object)
    of_lists = UpliftModel("t").fit(rows.tolist(), arm, y)
    assert np.array_equal(of_lists.predict(rows.tolist()), model.predict(frame))


def test_a_row_that_could_get_one_arm_alone_is_refused() -> None:
    x, arm = np.random.default_rng(0).normal(size=(60, 1)), np.arange(60) % 2
    with pytest.raises(DataError, match="propensity: no overlap: row 0 could get one arm alone"):
        UpliftModel("constant").fit(x, arm, x[:, 0], np.where(arm == 0, 1.0, 0.5))
