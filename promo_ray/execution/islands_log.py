"""The memory of an island run: migrations and history, both bounded however long it runs.

The migration log keeps its last rows, as parquet in parts. The history keeps every round at first
and every 2nd, 4th, ... when it grows too long, which depends on round numbers alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import pyarrow as pa

from promo_ray.errors import ArtifactError, ConfigError
from promo_ray.execution.islands_store import IslandStore

_MAX_HISTORY = 10_000

MIGRATIONS = pa.schema(
    [
        pa.field("round", pa.int32(), nullable=False),
        pa.field("island", pa.int32(), nullable=False),
        pa.field("source", pa.int32(), nullable=False),
        pa.field("source_round", pa.int32(), nullable=False),
        pa.field("n_sent", pa.int32(), nullable=False),
        pa.field("n_taken", pa.int32(), nullable=False),
        pa.field("fitness", pa.float64(), nullable=False),
        pa.field("is_takeover", pa.bool_(), nullable=False),
    ]
)


class Migration(NamedTuple):
    """What came from one island to another before an interval.

    Attributes:
        round: intervals that the receiving island had behind it.
        island: who received.
        source: who sent.
        source_round: intervals that the sender had behind it.
        n_sent: individuals that came.
        n_taken: those taken in.
        fitness: best fitness among those who came; -inf if nobody could come.
        is_takeover: one of them became the best of the island.
    """

    round: int
    island: int
    source: int
    source_round: int
    n_sent: int
    n_taken: int
    fitness: float
    is_takeover: bool


class MigrationLog:
    """The last rows of migrations.

    Args:
        limit: rows kept, >= 1.
        store: where full parts are written; None = memory only.
        saved: what `document` gave, to go on from.
        part_rows: rows of a part.
    """

    def __init__(
        self,
        limit: int,
        store: IslandStore | None,
        saved: Mapping[str, Any] | None = None,
        part_rows: int = 4096,
    ) -> None:
        if limit < 1:
            raise ConfigError(f"log_rows must be >= 1; got {limit}")
        self._limit, self._store, self._part_rows = limit, store, part_rows
        self.n_total = 0
        self._parts: list[str] = []
        self._n_written = 0
        self._rows: deque[Migration] = deque(maxlen=limit)
        if saved is not None:
            self._take_up(saved)

    def _take_up(self, saved: Mapping[str, Any]) -> None:
        self.n_total, self._n_written = saved["n_total"], saved["n_written"]
        self._parts = list(saved["parts"])
        if self._store is not None:
            for name in self._parts:
                self._rows.extend(_rows(self._store.read_log(name)))
        self._rows.extend(Migration(*map(_finite_or_worst, row)) for row in saved["tail"])

    def add(self, rows: Sequence[Migration]) -> None:
        """Append rows; the oldest beyond the limit go."""
        self._rows.extend(rows)
        self.n_total += len(rows)
        while self._store is not None and self.n_total - self._n_written >= self._part_rows:
            self._write_part(self._store)

    def _write_part(self, store: IslandStore) -> None:
        name = store.part_name(self._n_written // self._part_rows)
        end = self._n_written + self._part_rows
        store.write_log(name, _table(self._kept(self._n_written, end)))
        self._n_written = end
        self._parts.append(name)
        self._parts = self._parts[-math.ceil(self._limit / self._part_rows) :]

    def _kept(self, start: int, stop: int) -> list[Migration]:
        """Those of the rows [start, stop), counted from the first ever, that are still here."""
        first = self.n_total - len(self._rows)
        return list(self._rows)[max(0, start - first) : max(0, stop - first)]

    def document(self) -> dict[str, Any]:
        """What a checkpoint holds: names of parts, and the rows after them."""
        return {
            "n_total": self.n_total,
            "n_written": self._n_written,
            "parts": self._parts,
            "tail": [list(row) for row in self._kept(self._n_written, self.n_total)],
        }

    def table(self, rounds: Sequence[int]) -> pa.Table:
        """Rows by round and island; `replay_of` reads what else it needs from the metadata."""
        facts = {"rounds": list(rounds), "n_dropped": self.n_total - len(self._rows)}
        rows = sorted(self._rows, key=lambda r: (r.round, r.island, r.source))
        return _table(rows).replace_schema_metadata({"islands": orjson.dumps(facts)})


def _finite_or_worst(value: Any, worst: float = -float("inf")) -> Any:
    """JSON has no infinity: null was the fitness -inf, or the violation inf."""
    return worst if value is None else value


def _table(rows: Sequence[Migration]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [[]] * len(MIGRATIONS)
    fields = zip(columns, MIGRATIONS, strict=True)
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in fields], schema=MIGRATIONS)


def _rows(table: pa.Table) -> list[Migration]:
    return [Migration(*row) for row in zip(*(c.to_pylist() for c in table.columns), strict=True)]


class Record(NamedTuple):
    """An order of migrations to replay.

    Attributes:
        rounds: intervals of each island.
        pulls: (island, round) to (source, round of the source), in the order of the log.
    """

    rounds: tuple[int, ...]
    pulls: dict[tuple[int, int], list[tuple[int, int]]]


def replay_of(table: pa.Table) -> Record:
    """Order of migrations of a log.

    Raises:
        ArtifactError: no log of a run, or rows of it were dropped.
    """
    metadata = (table.schema.metadata or {}).get(b"islands")
    if metadata is None or table.schema.names != MIGRATIONS.names:
        raise ArtifactError("replay must be the migration log of a run, with its metadata")
    facts = orjson.loads(metadata)
    if facts["n_dropped"]:
        raise ArtifactError(
            f"replay must be a whole log; its first {facts['n_dropped']} rows were dropped: "
            "run with larger log_rows"
        )
    pulls: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for row in _rows(table):
        pulls.setdefault((row.island, row.round), []).append((row.source, row.source_round))
    return Record(tuple(facts["rounds"]), pulls)


def _read(row: Mapping[str, Any]) -> dict[str, float]:
    sign = {name: 1.0 if name == "violation" else -1.0 for name in row}
    return {name: _finite_or_worst(v, sign[name] * float("inf")) for name, v in row.items()}


class History:
    """Scalars per round and island, thinned by halves when there are too many."""

    def __init__(self, limit: int = _MAX_HISTORY, saved: Mapping[str, Any] | None = None) -> None:
        self._limit = limit
        self._stride: int = 1 if saved is None else saved["stride"]
        rows, latest = ([], []) if saved is None else (saved["rows"], saved["latest"])
        rows, latest = ([_read(r) for r in some] for some in (rows, latest))
        self._rows: list[dict[str, float]] = rows
        self._latest: dict[int, dict[str, float]] = {int(r["island"]): r for r in latest}

    def add(self, row: dict[str, float]) -> None:
        """Append the scalars of an island after a round."""
        self._latest[int(row["island"])] = row
        if row["round"] % self._stride:
            return
        self._rows.append(row)
        if len(self._rows) > max(self._limit, 4 * len(self._latest)):
            self._stride *= 2
            self._rows = [r for r in self._rows if r["round"] % self._stride == 0]

    def document(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        latest = [self._latest[i] for i in sorted(self._latest)]
        return {"stride": self._stride, "rows": self._rows, "latest": latest}

    def rows(self) -> tuple[dict[str, float], ...]:
        """What is kept, by round and island; the last round of each island always."""
        last = [row for row in self._latest.values() if row["round"] % self._stride]
        return tuple(sorted([*self._rows, *last], key=lambda r: (r["round"], r["island"])))
