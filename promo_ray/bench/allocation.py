"""Allocation and its peers on the same seeded instances, each solver in a process of its own.

One record per solver and instance: sizes (`family, n, m, k, rows`), `cpu_s` of one thread around
the solve (`build_s` apart), `peak_mb` over the data, `n_passes`, `bound` (of peers: the exact dual
value at their prices), and against ours `times_cpu` and `bound_over_ours`. Of promo_ray also `gap`,
`is_feasible` (rows summed exactly and apart from the solver), `bandwidth_rate` (bytes of all passes
per second of the solve, as a share of what one thread reads here; up to some 10,000 users a solve
is one pass that gathers all of them, and the share says little), and passes from warm prices.
Of DuaLip, which has no stopping rule, `times_cpu_to_same_bound` counts its seconds until its bound
is ours, or all of them (`has_same_bound` false: the true ratio is higher). A peer that is not
installed is a record with `skipped`. A table goes to stderr at the end.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from promo_ray.bench.allocation_instances import FAMILIES, Case, n_rows, write

Record = dict[str, Any]

_PEERS = ("highs", "pdlp_1e-4", "pdlp_1e-6", "dualip")
_MOST_WALL_S = (120.0, 900.0)  # for one solver on one instance of 10,000 users, and on a larger
_SAME_BOUND = 1e-7  # DuaLip has arrived when this close to our bound: our own tolerance
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class Plan(NamedTuple):
    """One instance, the peers that solve it, and whether it stays on disk."""

    case: Case
    peers: tuple[str, ...] = ()
    n_runs: int = 5
    is_mapped: bool = False


_SLOW_PEERS = {"match": ("pdlp_1e-4", "pdlp_1e-6"), "promo": ("pdlp_1e-4",)}  # HiGHS: 6 s and more
_QUICK = (
    Plan(Case("dense", 10_000), ("highs", "pdlp_1e-4", "dualip")),
    *(
        Plan(Case(family, 10_000), _SLOW_PEERS.get(family, ("highs", "pdlp_1e-4")))
        for family in FAMILIES
        if family != "dense"
    ),
)
_FULL = (
    *(Plan(Case(family, 10_000), _PEERS) for family in FAMILIES),
    Plan(Case("dense", 100_000), ("highs", "pdlp_1e-4")),
    Plan(Case("coupon", 100_000), ("highs", "pdlp_1e-4")),
    *(Plan(Case(f, 100_000)) for f in FAMILIES if f not in ("dense", "coupon")),
    *(Plan(Case(f, 1_000_000), n_runs=1) for f in ("coupon", "dense", "sparse", "promo")),
    *(Plan(Case(f, 10_000_000), n_runs=1) for f in ("coupon", "dense")),
    Plan(Case("coupon", 100_000_000), n_runs=1, is_mapped=True),
)


def run(quick: bool = False) -> Iterator[Record]:
    """Records of all solvers and instances, instance by instance.

    Args:
        quick: all families at 10,000 users with their quick peers, about a minute.
    """
    shown = []
    with tempfile.TemporaryDirectory(prefix="promo_ray_bench_") as scratch:
        for plan in _QUICK if quick else _FULL:
            for record in _records(plan, Path(scratch)):
                shown.append(record)
                yield record
    sys.stderr.write(table(shown))


def _records(plan: Plan, scratch: Path) -> Iterator[Record]:
    case, family = plan.case, FAMILIES[plan.case.family]
    told = {
        "bench": "allocation",
        "family": case.family,
        "n": case.n,
        "m": family.m,
        "k": family.k,
        "rows": n_rows(case),
    }
    lacking = _lacking(plan, scratch)
    if lacking:
        yield {**told, "solver": "promo_ray", "skipped": lacking}
        return
    directory = scratch / case.family
    write(case, directory)
    try:
        ours = _solve("promo_ray", plan, directory)
        yield {**told, **ours}
        for peer in plan.peers:
            record = _solve(peer, plan, directory)
            yield {**told, **record, **_against(record, ours)}
    finally:
        shutil.rmtree(directory)


def _lacking(plan: Plan, scratch: Path) -> str | None:
    """What this machine lacks for an instance, if anything."""
    gib = plan.case.n_bytes / 2**30
    free = shutil.disk_usage(scratch).free / 2**30
    if free < 1.2 * gib:
        return f"needs {1.2 * gib:.0f} GiB of free disk in {scratch.parent}; got {free:.0f}"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    needed = 1.0 if plan.is_mapped else 2.0 * gib
    if memory < needed:
        return f"needs {needed:.0f} GiB of memory; got {memory:.0f}"
    return None


def _solve(solver: str, plan: Plan, directory: Path) -> Record:
    """Record of one solver in a fresh process."""
    out = directory / "out.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "promo_ray.bench.allocation_peers", solver]
    command += [str(directory), str(out), str(plan.n_runs)]
    if plan.is_mapped:
        command.append("mapped")
    record: Record = {
        "solver": solver,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }
    began, limit = time.perf_counter(), _MOST_WALL_S[plan.case.n > 10_000]
    try:
        ended = subprocess.run(
            command,
            env={**os.environ, **_ONE_THREAD},
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {**record, "failed": f"stopped after {limit:.0f} s"}
    record["process_s"] = time.perf_counter() - began
    if ended.returncode or not out.exists():
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        return {**record, "failed": f"exit code {ended.returncode}: {last}"}
    return {**record, **json.loads(out.read_text())}


def _against(peer: Record, ours: Record) -> Record:
    """Ratios of a peer to ours: processor seconds, bound, and seconds to the same bound."""
    if "cpu_s" not in peer or "cpu_s" not in ours:
        return {}
    size = max(abs(ours["bound"]), 1e-9)
    found = {
        "times_cpu": peer["cpu_s"] / ours["cpu_s"],
        "bound_over_ours": (peer["bound"] - ours["bound"]) / size,
    }
    if peer["solver"] == "highs":  # a vertex: its objective is the optimum, no bound lies below
        found["optimum_over_our_bound"] = (peer["objective"] - ours["bound"]) / size
    if "trace" in peer:
        goal = ours["bound"] + _SAME_BOUND * size
        arrived = [cpu_s for _, cpu_s, bound in peer["trace"] if bound <= goal]
        found["has_same_bound"] = bool(arrived)
        found["times_cpu_to_same_bound"] = (arrived or [peer["cpu_s"]])[0] / ours["cpu_s"]
    return found


_COLUMNS = (
    ("cpu s", "cpu_s", "{:.3g}"),
    ("x ours", "times_cpu", "{:.3g}"),
    ("x to bound", "times_cpu_to_same_bound", "{:.3g}"),
    ("passes", "n_passes", "{:.0f}"),
    ("warm", "warm_passes", "{:.0f}"),
    ("gap", "gap", "{:.1e}"),
    ("bound over ours", "bound_over_ours", "{:.1e}"),
    ("violation", "row_violation", "{:.1e}"),
    ("rows kept", "is_feasible", "{}"),
    ("split", "n_split_users", "{:.0f}"),
    ("peak MB", "peak_mb", "{:.0f}"),
    ("bandwidth", "bandwidth_rate", "{:.2f}"),
)


def table(records: list[Record]) -> str:
    """Plain text: a line per record, a column per figure; processor seconds of one thread."""
    lines = [["instance", "rows", "solver", *(head for head, *_ in _COLUMNS)]]
    for record in records:
        line = [f"{record['family']} {record['n']:,}", str(record["rows"]), record["solver"]]
        why = record.get("skipped") or record.get("failed")
        if why:
            line.append(f"({why})")
        else:
            line += [
                form.format(record[key]) if record.get(key) is not None else ""
                for _, key, form in _COLUMNS
            ]
        lines.append(line)
    full = [line for line in lines if len(line) == len(lines[0])]
    widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip()
        + "\n"
        for line in lines
    )
