from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from promo_ray.distributed import RayExecutor
from promo_ray.execution.executor import SerialExecutor
from promo_ray.response.blocks import TrialBlock, fit_over_blocks
from promo_ray.response.boosting import Boosting
from promo_ray.response.dr_learner import DrLearner

LEARNER = DrLearner(outcome=Boosting(max_iter=10), effect=Boosting(max_iter=5))


def block(number: int) -> TrialBlock:
    """600 rows of three arms, drawn where they are read."""
    rng = np.random.default_rng([7, number])
    x, arm = rng.normal(size=(600, 3)), rng.integers(0, 3, 600)
    outcome = 5.0 + x[:, 1] + (arm == 1) * (1.0 + x[:, 0]) + rng.normal(size=600)
    users = np.array([f"u{number}-{i}" for i in range(600)])
    return TrialBlock(x, arm, outcome, np.full(600, 1 / 3), users)


@pytest.mark.ray
@pytest.mark.parametrize("n_workers", [1, 3])
def test_blocks_give_the_same_bytes_on_any_workers(ray_session: Any, n_workers: int) -> None:
    blocks = [partial(block, i) for i in range(5)]
    x = np.random.default_rng(0).normal(size=(200, 3))
    alone = fit_over_blocks(blocks, 3, SerialExecutor(), learner=LEARNER, max_rows=1500).predict(x)
    assert np.corrcoef(alone[:, 0], x[:, 0])[0, 1] > 0.8
    with RayExecutor(n_workers, num_cpus_per_worker=0.25) as executor:
        found = fit_over_blocks(blocks, 3, executor, learner=LEARNER, max_rows=1500).predict(x)
    assert found.tobytes() == alone.tobytes()
