"""Replays on Ray give the bytes of one process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from market_cases import small

from promo_ray.distributed import RayExecutor


@pytest.mark.ray
@pytest.mark.parametrize("tightness", [0.0, 1.5])
def test_a_replay_has_the_same_bytes_on_workers(ray_session: Any, tightness: float) -> None:
    market = small(40, stock_tightness=tightness, horizon_days=14)
    ids, menu = market.user_ids(), market.past_offers()
    arm = np.arange(40) % (menu.num_rows + 1)
    alone = market.replay(ids, menu, arm)
    with RayExecutor(2, num_cpus_per_worker=0.25) as executor:
        spread = replace(market, executor=executor, n_shards=3).replay(ids, menu, arm)
    for table, other in zip(alone, spread, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(table, other, strict=True))
