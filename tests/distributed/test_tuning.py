from __future__ import annotations

import pytest

from promo_ray.pricing import SearchSpace, WeeklyPanel, tune_serial

pytestmark = pytest.mark.ray

SPACE = SearchSpace(holdout_weeks=4, first_weeks=1, reduction=2)


@pytest.fixture(scope="module")
def panel() -> WeeklyPanel:
    import numpy as np

    rng = np.random.default_rng(0)
    n, t = 30, 30
    log_price = np.where(rng.random((n, t)) < 0.3, np.log(0.8), 0.0)
    slope = rng.normal(-2.5, 0.5, n)
    units = rng.poisson(np.exp(2.5 + slope[:, None] * log_price)).astype(float)
    return WeeklyPanel(
        tuple(f"i{i:02d}" for i in range(n)),
        ("a", "b"),
        np.arange(n) % 2,
        0,
        units,
        5.0 * np.exp(log_price),
        np.ones((n, t), dtype=bool),
    )


def test_search_on_ray_gives_the_table_of_the_serial_one_and_resumes(
    ray_session, panel, tmp_path, capfd
):
    from promo_ray.distributed.tuning import tune_pricing

    told = []

    def sink(message):
        told.append((message.stage, message.done, message.total))

    from promo_ray.telemetry import Progress

    serial = tune_serial(panel, SPACE, 6, seed=3)
    found = tune_pricing(
        panel,
        SPACE,
        6,
        3,
        storage=str(tmp_path),
        max_concurrent=2,
        progress=Progress(sink, min_interval_s=0.0),
    )
    assert found.trials.equals(serial.trials)
    assert (found.best, found.loss) == (serial.best, serial.loss)
    assert told[-1] == ("tune", 6, 6)
    assert "Trial" not in capfd.readouterr().out

    again = tune_pricing(ray_session.put(panel), SPACE, 6, 3, storage=str(tmp_path))
    assert again.trials.equals(serial.trials)
    assert len(list(tmp_path.glob("pricing-*"))) == 1
