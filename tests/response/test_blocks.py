from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from planted_trials import trial

from promo_ray.errors import DataError
from promo_ray.execution.executor import SerialExecutor
from promo_ray.response.blocks import TrialBlock, fit_over_blocks
from promo_ray.response.boosting import Boosting
from promo_ray.response.dr_learner import DrLearner
from promo_ray.response.trial import check_trial

SMALL = DrLearner(outcome=Boosting(max_iter=20), effect=Boosting(max_iter=10))


def block(number: int, n_blocks: int = 4, n: int = 8000) -> TrialBlock:
    """Every n_blocks-th row of one trial."""
    data = trial(n, 11)
    rows = np.arange(n) % n_blocks == number
    users = np.array([f"u{i}" for i in range(n)])
    return TrialBlock(
        data.x[rows], data.arm[rows], data.outcome[rows], data.propensity[rows], users[rows]
    )


def test_with_few_rows_blocks_give_what_one_process_gives() -> None:
    blocks = [partial(block, i) for i in range(4)]
    found = fit_over_blocks(blocks, 3, SerialExecutor(), learner=SMALL)
    own = TrialBlock(*(np.concatenate(c) for c in zip(*(b() for b in blocks), strict=True)))
    rows = check_trial(own.x, own.arm, own.outcome, own.propensity, groups=own.user)
    oracle = SMALL.fit(rows).effects
    np.testing.assert_allclose(found.predict(own.x), oracle.predict(own.x), rtol=1e-5)


def test_a_sample_chooses_and_all_rows_estimate() -> None:
    blocks = [partial(block, i, 4, 24_000) for i in range(4)]
    fresh = trial(2000, 12)
    dr = DrLearner(min_boosted_rows=10**9)
    found = fit_over_blocks(blocks, 3, SerialExecutor(), learner=dr, max_rows=1500)
    # The average of 24,000 rows has a standard error of 0.017, that of the sample 0.07.
    gap = found.predict(fresh.x).mean(axis=0) - fresh.effect.mean(axis=0)
    assert np.abs(gap).max() < 0.05
    assert np.corrcoef(found.predict(fresh.x)[:, 0], fresh.effect[:, 0])[0, 1] > 0.93


def test_bad_blocks_are_refused() -> None:
    good = block(0)
    for bad, where in (
        ([], "blocks"),
        ([good._replace(outcome=np.full(2000, np.nan))], "outcome"),
        ([good._replace(user=good.user[:5])], "user"),
        ([good._replace(arm=np.where(good.arm == 2, 1, good.arm))], "blocks"),
    ):
        with pytest.raises(DataError) as caught:
            fit_over_blocks(bad, 3, SerialExecutor())
        assert caught.value.where == where
