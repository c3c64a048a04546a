"""Progress of long work as small messages to a sink; the last line of a job as JSON.

Library code takes a `Progress` and calls it; it never prints. A sink that returns True asks to
stop: the work raises StopRequestedError at its next safe point.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from promo_ray.errors import StopRequestedError


@dataclass(frozen=True, slots=True)
class Message:
    """One progress message.

    Attributes:
        stage: what is running, for example `profile` or `design`.
        done: units of work done.
        total: units of work in all; 0 if unknown.
        fields: a few scalars worth showing, for example best fitness.
    """

    stage: str
    done: int
    total: int
    fields: Mapping[str, float | int | str] = field(default_factory=dict)


Sink = Callable[[Message], bool | None]


class Progress:
    """Hands messages to a sink at most once per `min_interval_s`, first and last always."""

    def __init__(self, sink: Sink | None = None, min_interval_s: float = 1.0) -> None:
        self._sink = sink
        self._min_interval_s = min_interval_s
        self._last_at: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int = 0, **fields: float | int | str) -> None:
        """Report that `done` of `total` units of `stage` are done.

        Raises:
            StopRequestedError: the sink asked to stop.
        """
        if self._sink is None:
            return
        now = time.monotonic()
        last = self._last_at.get(stage)
        if last is not None and done != total and now - last < self._min_interval_s:
            return
        self._last_at[stage] = now
        if self._sink(Message(stage, done, total, fields)):
            raise StopRequestedError(f"{stage} stopped on request after {done} of {total}")


SILENT = Progress()


def json_line(values: Mapping[str, Any]) -> str:
    """One JSON object on one line; NumPy scalars allowed."""
    return orjson.dumps(dict(values), option=orjson.OPT_SERIALIZE_NUMPY).decode()
