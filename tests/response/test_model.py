from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from planted_trials import DEPTHS, campaign, offers
from safetensors.numpy import load, save

from promo_ray.errors import DataError
from promo_ray.execution import SerialExecutor
from promo_ray.response.model import PARTS, FoldEstimate, ResponseModel, TrialLog, fit_fold
from promo_ray.response.trial import folds_of

N = 3000


@pytest.fixture(scope="module")
def log() -> TrialLog:
    return campaign(N, 0).log


@pytest.fixture(scope="module")
def model(log: TrialLog) -> ResponseModel:
    return ResponseModel.fit(log, DEPTHS, 0)


def test_effect_is_net_of_the_discount(model: ResponseModel) -> None:
    fresh = campaign(3000, 1)
    found = model.effects(fresh.log.x, fresh.log.basket, DEPTHS)
    truth = fresh.gross - fresh.discount
    for j in range(3):
        assert np.corrcoef(found.effect[:, j], truth[:, j])[0, 1] > 0.8
    np.testing.assert_allclose(found.effect.mean(axis=0), truth.mean(axis=0), atol=1.2)
    np.testing.assert_allclose(found.discount.mean(axis=0), fresh.discount.mean(axis=0), rtol=0.1)


def test_outcome_that_is_no_money_keeps_the_discount_apart(log: TrialLog) -> None:
    visits = log._replace(outcome=(log.outcome > 25.0).astype(float))
    found = ResponseModel.fit(visits, DEPTHS, 0, is_net=False).effects(log.x, log.basket, DEPTHS)
    assert np.abs(found.effect).max() < 1.0
    assert found.discount.mean() > 1.0


def test_round_trip_through_files_keeps_the_bits(model: ResponseModel, log: TrialLog) -> None:
    arrays, document = model.to_arrays()
    again = ResponseModel.from_arrays(load(save(arrays)), orjson.loads(orjson.dumps(document)))
    table = offers(*DEPTHS.to_pylist(), {"mechanic": "percent_off", "depth_rate": 0.5})
    first, second = (m.effects(log.x, log.basket, table) for m in (model, again))
    assert first.effect.tobytes() == second.effect.tobytes()
    assert first.discount.tobytes() == second.discount.tobytes()
    np.testing.assert_array_equal(again.weights, model.weights)


def test_newer_format_is_refused(model: ResponseModel) -> None:
    arrays, document = model.to_arrays()
    with pytest.raises(DataError, match="format must be 1"):
        ResponseModel.from_arrays(arrays, document | {"format": 2})


def test_prediction_of_a_user_does_not_depend_on_the_others(
    model: ResponseModel, log: TrialLog
) -> None:
    whole = model.effects(log.x, log.basket, DEPTHS)
    part = model.effects(log.x[100:107], log.basket[100:107], DEPTHS)
    np.testing.assert_allclose(part.effect, whole.effect[100:107], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(part.discount, whole.discount[100:107])


def test_weights_sum_to_one_and_the_reason_is_told(model: ResponseModel) -> None:
    assert model.weights.shape == (len(PARTS),)
    assert model.weights.sum() == pytest.approx(1.0)
    assert "a pattern was found" in model.reason()


def test_pattern_is_denied_where_there_is_none(log: TrialLog) -> None:
    rng = np.random.default_rng(3)
    flat = log._replace(outcome=20.0 + 5.0 * rng.normal(size=N), cost=np.zeros(N))
    model = ResponseModel.fit(flat, DEPTHS, 0)
    found = model.effects(flat.x, flat.basket, DEPTHS)
    assert np.abs(found.effect).max() < 1.5
    assert found.effect.std() < 0.4
    assert (found.discount == 0).all()


def test_fold_is_predicted_well_and_without_its_rows(log: TrialLog) -> None:
    folds = folds_of(log.groups, N, 5, 0)
    first = fit_fold(log, DEPTHS, folds, 2, 0)
    own = folds == 2
    _check_mean_outcome(log, own, first)
    spoiled = log._replace(
        outcome=np.where(own, 1e6, log.outcome), cost=np.where(own, 50.0, log.cost)
    )
    second = fit_fold(spoiled, DEPTHS, folds, 2, 0)
    for a, b in zip(first, second, strict=True):
        assert a.tobytes() == b.tobytes()
    assert first.mean_outcome.shape == (int(own.sum()), 4)


def _check_mean_outcome(log: TrialLog, own: Any, found: FoldEstimate) -> None:
    arm, outcome = log.arm[own], log.outcome[own]
    predicted = found.mean_outcome[np.arange(len(arm)), arm]
    assert abs((outcome - predicted).mean()) < 1.5
    assert ((outcome - predicted) ** 2).mean() < 0.9 * outcome.var()
    gap = found.mean_outcome[:, 1:] - found.mean_outcome[:, :1]
    np.testing.assert_allclose(gap, found.effect, atol=1e-9)


def test_folds_run_on_an_executor(log: TrialLog) -> None:
    small = log.rows(np.arange(N) < 600)
    folds = folds_of(small.groups, 600, 2, 0)
    found = SerialExecutor().load([0, 1]).map(_one_fold, small, folds)
    for fold in range(2):
        want = fit_fold(small, DEPTHS, folds, fold, 0)
        assert found[fold].effect.tobytes() == want.effect.tobytes()


def _one_fold(fold: int, log: TrialLog, folds: Any) -> FoldEstimate:
    return fit_fold(log, DEPTHS, folds, fold, 0)


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("x", np.full((N, 3), np.nan), "x"),
        ("arm", np.zeros(N, dtype=int), "arm"),
        ("arm", np.full(N, 7), "arm"),
        ("outcome", np.full(N, np.nan), "outcome"),
        ("cost", np.full(N, -1.0), "cost"),
        ("propensity", np.zeros(N), "propensity"),
        ("basket", np.ones(3), "basket"),
    ],
)
def test_bad_log_names_its_column(log: TrialLog, field: str, value: Any, where: str) -> None:
    with pytest.raises(DataError) as caught:
        ResponseModel.fit(log._replace(**{field: value}), DEPTHS, 0)
    assert caught.value.where == where


def test_other_features_than_in_the_fit_are_refused(model: ResponseModel, log: TrialLog) -> None:
    with pytest.raises(DataError, match="3 columns"):
        model.effects(log.x[:, :2], log.basket, DEPTHS)
