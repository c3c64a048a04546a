from __future__ import annotations

import numpy as np
import pytest

from promo_ray.distributed.tuning import tune_pricing
from promo_ray.errors import StopRequestedError
from promo_ray.pricing import SearchSpace, WeeklyPanel, tune_serial
from promo_ray.telemetry import Message, Progress

pytestmark = pytest.mark.ray

SPACE = SearchSpace(holdout_weeks=4, first_weeks=1, reduction=2)


@pytest.fixture(scope="module")
def panel() -> WeeklyPanel:
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


def test_search_on_ray_stops_on_request_goes_on_and_ends_as_the_serial_one(
    ray_session, panel, tmp_path, capfd
):
    serial = tune_serial(panel, SPACE, 6, seed=3)

    def stop_after_two(message: Message) -> bool:
        return message.done >= 2

    with pytest.raises(StopRequestedError):
        tune_pricing(
            panel,
            SPACE,
            6,
            3,
            storage=str(tmp_path),
            max_concurrent=1,
            progress=Progress(stop_after_two, min_interval_s=0.0),
        )

    told: list[Message] = []
    found = tune_pricing(
        ray_session.put(panel),
        SPACE,
        6,
        3,
        storage=str(tmp_path),
        progress=Progress(told.append, min_interval_s=0.0),
    )
    assert found.trials.equals(serial.trials)
    assert (found.best, found.loss) == (serial.best, serial.loss)
    assert told  # the second run's own sink is the one that hears
    assert len(list(tmp_path.glob("pricing-*"))) == 1
    assert "Trial" not in capfd.readouterr().out


def test_search_without_storage_ends_as_the_serial_one(ray_session, panel):
    found = tune_pricing(panel, SPACE, 3, 4, max_concurrent=2)
    assert found.trials.equals(tune_serial(panel, SPACE, 3, 4).trials)
