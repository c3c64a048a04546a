"""Progress on a terminal as rich bars, elsewhere as plain lines on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from promo_ray.telemetry import Message, Progress


def _words(message: Message) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in message.fields.items())


def _shown(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


class _PlainSink:
    def __call__(self, message: Message) -> None:
        of = f"/{message.total}" if message.total else ""
        line = f"{message.stage:<22} {message.done}{of}  {_words(message)}"
        sys.stderr.write(line.rstrip() + "\n")
        sys.stderr.flush()


class _WordyBars(Bars):
    """Bars with the words of each behind it, or below it where the terminal is too narrow."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """See `rich.progress.Progress`."""
        for task in self.tasks:
            bar = self.make_tasks_table([task])
            words = Text(task.fields["words"], style="dim")
            width = Measurement.get(self.console, self.console.options, bar).maximum
            if width + 1 + words.cell_len <= self.console.width:
                line = Table.grid(padding=(0, 1))
                line.add_row(bar, words)
                yield line
            else:
                yield bar
                yield Padding(words, (0, 0, 0, 2))


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
    )
    with _WordyBars(*columns, console=console) as bars:
        yield Progress(_RichSink(bars), min_interval_s=0.2)
