"""One pass over a log too large for memory: rows per processor second and peak memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from promo_ray.evaluation import LogBlock, stream_policy_value
from promo_ray.seeding import stream

_ROWS = 20_000  # of a block


def stream_speed(n: int, n_arms: int) -> Iterator[dict[str, Any]]:
    """Records of IPS and `auto` in a process of its own, whose peak memory is read at its end."""
    for method in ("ips", "auto"):
        code = f"import promo_ray.bench.ope_stream as s; s.report({n}, {n_arms}, {method!r})"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        yield {"bench": "ope", "case": "stream", **json.loads(done.stdout)}


def report(n: int, n_arms: int, method: str) -> None:
    """Write one record to standard output as JSON."""
    rate = 0.02 + 0.06 * stream(0, "bench.ope.stream.rate").random(n_arms)
    base = stream(0, "bench.ope.stream.policy").random((_ROWS, n_arms), np.float32) ** 2
    base /= base.sum(axis=1, keepdims=True)
    truth = 0.0

    def blocks() -> Iterator[LogBlock]:
        nonlocal truth
        for b in range(n // _ROWS):
            rng = stream(b, "bench.ope.stream.log")
            action = rng.integers(0, n_arms, _ROWS)
            reward = (rng.random(_ROWS) < rate[action]).astype(np.float64)
            policy = np.roll(base, b, axis=1)  # another policy in every block, at little cost
            truth += float(policy.mean(axis=0) @ rate) * _ROWS / n
            yield LogBlock(policy, action, reward, np.full(_ROWS, 1.0 / n_arms))

    started = time.process_time()
    found = stream_policy_value([blocks], method)
    seconds = time.process_time() - started
    record = {
        "method": method, "n": found.n, "n_arms": n_arms, "cpu_s": seconds,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "value": found.value, "low": found.low, "high": found.high, "truth": truth,
        "ess": found.ess, "withheld": found.withheld,
    }  # fmt: skip
    sys.stdout.write(json.dumps(record) + "\n")
