"""The driver's side of the island loop: who starts when, who pulls what, and what is written."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from promo_ray.execution.cells import Cells, Done
from promo_ray.execution.islands_keeper import Answer, Cell, Migrants, Order, Summary
from promo_ray.execution.islands_log import History, Migration, MigrationLog, Record
from promo_ray.execution.islands_store import Index, IslandStore
from promo_ray.execution.topology import Topology
from promo_ray.telemetry import Progress


class Plan(NamedTuple):
    """Settings of a run; see `islands.run_islands`."""

    key: str
    mode: str
    topology: Topology
    seed: int
    migrate_every: int
    n_migrants: int
    max_evals: int
    target: float | None
    max_seconds: float | None
    record: Record | None

    def cost(self, cell: Cell) -> int:
        """Evaluations of a cell in an interval."""
        return cell.kind.evals(self.migrate_every) * len(cell.islands)


class _Pull(NamedTuple):
    """One island's pull from one source, and the columns of its migrants in the order."""

    island: int
    source: int
    source_round: int
    row: int
    start: int


class Driver:
    """Runs a plan over cells; `run` once, then read what came of it."""

    def __init__(
        self,
        plan: Plan,
        cells: Sequence[Cell],
        hosted: Cells,
        rounds: Sequence[int],
        files: Sequence[str],
        log: MigrationLog,
        history: History,
        store: IslandStore | None,
        progress: Progress,
        stage: str,
    ) -> None:
        self._plan, self._cells, self._hosted = plan, cells, hosted
        self._files = list(files)
        self._log, self._history, self._store = log, history, store
        self._progress, self._stage = progress, stage
        self.rounds = list(rounds)
        self.stop_reason = "max_evals" if plan.record is None else "replay"
        self.busy_s = 0.0
        self._cost = [plan.cost(cell) for cell in cells]
        self._cell_of = {i: c for c, cell in enumerate(cells) for i in cell.islands}
        self._pending: dict[int, list[_Pull]] = {}
        self._offers: dict[tuple[int, int], Migrants] = {}
        pulls = [] if plan.record is None else plan.record.pulls.values()
        self._wanted = Counter(pull for some in pulls for pull in some)
        self._pulled: dict[tuple[int, int], int] = {}
        self._best: list[Migrants | None] = [None] * len(self.rounds)
        self._summaries: list[Summary | None] = [None] * len(self.rounds)
        self._is_over = False
        self._started_at = time.perf_counter()
        self._n_before = self.n_evals

    @property
    def n_evals(self) -> int:
        """Evaluations done, those before a resume included."""
        return sum(
            cost * self.rounds[cell.islands[0]]
            for cost, cell in zip(self._cost, self._cells, strict=True)
        )

    @property
    def n_new_evals(self) -> int:
        """Evaluations of this call."""
        return self.n_evals - self._n_before

    def seconds(self) -> float:
        """Seconds since the driver was made."""
        return time.perf_counter() - self._started_at

    def best(self) -> Migrants:
        """`(islands, 1, genes)` best of each island."""
        known = [b for b in self._best if b is not None]
        return Migrants(*(np.stack(arrays) for arrays in zip(*known, strict=True)))

    def run(self, is_resumed: bool) -> None:
        """Go to the end of the plan."""
        if is_resumed:
            self._look()
        self._judge()
        self._issue()
        while self._pending:
            for done in self._hosted.collect():
                self._absorb(done)
            self._judge()
            is_sync = self._plan.mode == "sync" and self._plan.record is None
            is_whole = not (is_sync and self._pending)
            self._issue()  # workers go on while the driver writes
            if is_whole:
                self._save()
                self._report()

    def _look(self) -> None:
        """Where islands of a checkpoint stand: their emigrants and best are in their states."""
        for c, cell in enumerate(self._cells):
            order = Order(self.rounds[cell.islands[0]], 0, is_sending=self._is_sending)
            self._hosted.submit(c, order)
            self._pending[c] = []
        while self._pending:
            for done in self._hosted.collect():
                self._pending.pop(done.cell)
                self._note(self._cells[done.cell], done.answer)

    @property
    def _is_sending(self) -> bool:
        return len(self._cells) > 1 and self._plan.n_migrants > 0

    def _issue(self) -> None:
        for c in self._startable():
            self._pending[c] = []
            self._hosted.submit(c, self._order(c))

    def _startable(self) -> list[int]:
        """Cells that may go another interval now."""
        idle = [c for c in range(len(self._cells)) if c not in self._pending]
        record = self._plan.record
        if record is not None:
            return [c for c in idle if self._is_next(self._cells[c].islands[0], record)]
        if self._is_over:
            return []
        if self._plan.mode == "sync":
            is_affordable = self.n_evals + sum(self._cost) <= self._plan.max_evals
            return idle if is_affordable and not self._pending else []
        left = self._plan.max_evals - self.n_evals - sum(self._cost[c] for c in self._pending)
        found = []
        for c in sorted(idle, key=lambda c: self.rounds[self._cells[c].islands[0]]):
            if self._cost[c] <= left:
                found.append(c)
                left -= self._cost[c]
        return found

    def _is_next(self, island: int, record: Record) -> bool:
        at_round = self.rounds[island]
        pulls = record.pulls.get((island, at_round), [])
        return at_round < record.rounds[island] and all(p in self._offers for p in pulls)

    def _sources(self, island: int) -> list[tuple[int, int]]:
        """(source, its round) that an island pulls from now."""
        at_round, plan = self.rounds[island], self._plan
        if plan.record is not None:
            return plan.record.pulls.get((island, at_round), [])
        if not at_round or not plan.n_migrants:
            return []
        sources = plan.topology.sources(len(self.rounds), island, at_round, plan.seed)
        return [
            (source, self.rounds[source])
            for source in sources
            if self.rounds[source] and self._pulled.get((island, source)) != self.rounds[source]
        ]

    def _order(self, c: int) -> Order:
        """Order of a cell's next interval; notes what its islands pull."""
        cell, n = self._cells[c], self._plan.n_migrants
        others: dict[tuple[int, int], int] = {}
        pulls = self._pending[c]
        for row, island in enumerate(cell.islands):
            for start, (source, at_round) in enumerate(self._sources(island)):
                pulls.append(_Pull(island, source, at_round, row, start * n))
                self._pulled[island, source] = at_round
                if self._is_outside(c, source):
                    others.setdefault((source, at_round), len(others))
        order = Order(
            self.rounds[cell.islands[0]], self._plan.migrate_every, is_sending=self._is_sending
        )
        if not pulls:
            return order
        rows = self._rows(c, pulls, others)
        parts = [self._offers[pull] for pull in others]
        arrays = [np.concatenate(a) for a in zip(*parts, strict=True)] if parts else None
        for pull in pulls:
            self._used((pull.source, pull.source_round))
        return order._replace(rows=rows, others=None if arrays is None else Migrants(*arrays))

    def _is_outside(self, c: int, source: int) -> bool:
        return self._plan.record is not None or self._cell_of[source] != c

    def _rows(
        self, c: int, pulls: Sequence[_Pull], others: dict[tuple[int, int], int]
    ) -> NDArray[np.int64]:
        """See `IslandKind.immigrate`."""
        cell, n = self._cells[c], self._plan.n_migrants
        width = max(pull.start for pull in pulls) + n
        rows = np.full((len(cell.islands), width), -1, dtype=np.int64)
        for pull in pulls:
            if self._is_outside(c, pull.source):
                first = (len(cell.islands) + others[pull.source, pull.source_round]) * n
            else:
                first = cell.islands.index(pull.source) * n
            rows[pull.row, pull.start : pull.start + n] = np.arange(first, first + n)
        return rows

    def _used(self, pull: tuple[int, int]) -> None:
        """A replay keeps offers until the last island that pulled them has them."""
        if self._plan.record is not None:
            self._wanted[pull] -= 1
            if not self._wanted[pull]:
                del self._offers[pull]

    def _absorb(self, done: Done) -> None:
        """Take in the answer of an interval."""
        answer: Answer = done.answer
        cell, pulls = self._cells[done.cell], self._pending.pop(done.cell)
        self.busy_s += done.busy_s
        for island in cell.islands:
            if self._plan.record is None:
                self._offers.pop((island, self.rounds[island]), None)
            self.rounds[island] = answer.at_round
            self._files[island] = IslandStore.name_of(cell.islands, answer.at_round)
        self._note(cell, answer)
        self._log.add([self._migration(answer, pull) for pull in pulls])
        cost = cell.kind.evals(self._plan.migrate_every)
        for island, summary in zip(cell.islands, answer.summaries, strict=True):
            entry = {"round": answer.at_round, "island": island}
            n_evals = cost * answer.at_round
            self._history.add({**entry, "n_evals": n_evals, **summary._asdict()})

    def _note(self, cell: Cell, answer: Answer) -> None:
        for row, island in enumerate(cell.islands):
            self._summaries[island] = answer.summaries[row]
            self._best[island] = Migrants(*(a[row] for a in answer.best))
            offer = (island, answer.at_round)
            if answer.emigrants is not None and (self._plan.record is None or self._wanted[offer]):
                self._offers[offer] = Migrants(*(a[row] for a in answer.emigrants))

    def _migration(self, answer: Answer, pull: _Pull) -> Migration:
        columns = slice(pull.start, pull.start + self._plan.n_migrants)
        fates = [] if answer.fates is None else answer.fates[pull.row, columns].tolist()
        fitness = [] if answer.fitness is None else answer.fitness[pull.row, columns].tolist()
        return Migration(
            round=answer.at_round - 1,
            island=pull.island,
            source=pull.source,
            source_round=pull.source_round,
            n_sent=sum(f > -np.inf for f in fitness),
            n_taken=sum(f > 0 for f in fates),
            fitness=max(fitness, default=-np.inf),
            is_takeover=2 in fates,
        )

    def _judge(self) -> None:
        """Whether to start nothing more."""
        plan = self._plan
        if self._is_over or (plan.mode == "sync" and self._pending):
            return
        known = [s for s in self._summaries if s is not None]
        if plan.target is not None and any(
            s.violation == 0 and s.best >= plan.target for s in known
        ):
            self._is_over, self.stop_reason = True, "target"
        elif plan.max_seconds is not None and self.seconds() >= plan.max_seconds:
            self._is_over, self.stop_reason = True, "max_seconds"

    def _save(self) -> None:
        if self._store is not None:
            history, log = self._history.document(), self._log.document()
            index = Index(self._plan.key, self.rounds, self._files, history, log)
            self._store.write_index(index)

    def _report(self) -> None:
        known = [s for s in self._summaries if s is not None]
        n_evals = self.n_evals
        best = min(known, key=lambda s: (s.violation, -s.best))
        self._progress(
            self._stage,
            n_evals,
            n_evals if not self._pending else self._plan.max_evals,
            best=best.best,
            mean=float(np.mean([s.mean for s in known])),
            diversity=float(np.mean([s.diversity for s in known])),
            evals_per_s=self.n_new_evals / max(self.seconds(), 1e-9),
            migrations=self._log.n_total,
        )
