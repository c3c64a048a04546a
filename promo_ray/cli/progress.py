"""Progress on a terminal as rich bars, elsewhere as plain lines on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from promo_ray.telemetry import Message, Progress


def _words(message: Message) -> str:
    shown = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in message.fields.items()
    )
    return ", ".join(shown)


class _PlainSink:
    def __call__(self, message: Message) -> None:
        of = f"/{message.total}" if message.total else ""
        line = f"{message.stage:<22} {message.done}{of}  {_words(message)}"
        sys.stderr.write(line.rstrip() + "\n")
        sys.stderr.flush()


class _RichSink:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, int] = {}

    def __call__(self, message: Message) -> None:
        task = self._tasks.get(message.stage)
        total = message.total or None
        if task is None:
            task = self._bars.add_task(message.stage, total=total, words="")
            self._tasks[message.stage] = int(task)
        self._bars.update(task, completed=message.done, total=total, words=_words(message))  # type: ignore[arg-type]


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Progress object for a job: rich bars if standard error is a terminal, else plain lines."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Progress(_PlainSink())
        return
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[words]}"),
    )
    with Bars(*columns, console=console) as bars:
        yield Progress(_RichSink(bars), min_interval_s=0.2)
