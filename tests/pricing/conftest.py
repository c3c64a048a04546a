"""Simulated weekly panels with known elasticities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from promo_ray.pricing import WeeklyPanel


def simulated_panel(
    seed: int, n: int = 150, t: int = 40, level: float = 30.0, excess: float = 0.0
) -> tuple[WeeklyPanel, NDArray[np.float64]]:
    """Panel with promotions and moving base prices, shared weeks, and its true elasticities.

    `excess` is the variance of a gamma factor on the Poisson rate of every item-week.
    """
    rng = np.random.default_rng(seed)
    n_groups = 6
    group = np.arange(n) % n_groups
    truth = rng.normal(-2.4, 0.4, n_groups)[group] + rng.normal(0, 0.5, n)
    promoted = rng.random((n, t)) < 0.2
    depth = rng.choice([0.1, 0.15, 0.2, 0.3], (n, t))
    base = np.cumsum(rng.normal(0, 0.03, (n, t)) * (rng.random((n, t)) < 0.3), axis=1)
    log_price = base + np.where(promoted, np.log(1 - depth), 0.0)
    week = rng.normal(0, 0.15, t)
    popularity = rng.normal(0, 0.8, n)
    rate = level * np.exp(popularity[:, None] + truth[:, None] * log_price + week)
    if excess:
        rate = rate * rng.gamma(1 / excess, excess, (n, t))
    panel = WeeklyPanel(
        tuple(f"i{i:03d}" for i in range(n)),
        tuple(f"c{g}" for g in range(n_groups)),
        group,
        0,
        rng.poisson(rate).astype(np.float64),
        10.0 * np.exp(log_price),
        np.ones((n, t), dtype=bool),
    )
    return panel, truth


@pytest.fixture(scope="session")
def make_panel() -> Callable[..., tuple[WeeklyPanel, NDArray[np.float64]]]:
    return simulated_panel
