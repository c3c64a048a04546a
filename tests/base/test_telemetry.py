import json

import numpy as np
import pytest

from promo_ray.errors import StopRequestedError
from promo_ray.telemetry import Message, Progress, json_line


def test_first_and_last_message_come_and_the_rest_is_throttled() -> None:
    seen: list[Message] = []
    progress = Progress(seen.append, min_interval_s=3600)
    for i in range(1, 101):
        progress("profile", i, 100, loss=float(i))
    assert [m.done for m in seen] == [1, 100]


def test_a_sink_can_stop_the_work() -> None:
    progress = Progress(lambda m: m.done >= 2, min_interval_s=0)
    progress("design", 1, 5)
    with pytest.raises(StopRequestedError, match="design stopped on request after 2 of 5"):
        progress("design", 2, 5)


def test_json_line_is_one_line_with_numpy_scalars() -> None:
    line = json_line({"a": np.float64(1.5), "b": {"c": [1, 2]}})
    assert "\n" not in line
    assert json.loads(line) == {"a": 1.5, "b": {"c": [1, 2]}}
