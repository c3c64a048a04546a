"""Peak memory of this process over a moment, and how fast one thread reads memory."""

from __future__ import annotations

import re
import resource
import threading
import time
from pathlib import Path
from types import TracebackType

import numpy as np

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_SAMPLE_S = 0.002
_BANDWIDTH_BYTES = 1 << 28  # far beyond any cache


class Peak:
    """Most memory held inside the `with` block over what was held before it, in MB (2**20 bytes).

    Linux resets and reads the high-water mark of the kernel (`/proc/self`), elsewhere the mark of
    the process's whole life counts, so that a small peak may read 0. With `anonymous_only`, pages
    of mapped files do not count, and memory is sampled every 2 ms instead.
    """

    def __init__(self, anonymous_only: bool = False) -> None:
        self.mb = 0.0
        self._anonymous_only = anonymous_only and _STATUS.exists()
        self._is_over = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Peak:
        if self._anonymous_only:
            self._before = _status_mb("RssAnon")
            self._sampler.start()
        elif _STATUS.exists():
            _RESET.write_text("5")
            self._before = _status_mb("VmRSS")
        else:
            self._before = _life_mb()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._anonymous_only:
            self._is_over.set()
            self._sampler.join()
        else:
            top = _status_mb("VmHWM") if _STATUS.exists() else _life_mb()
            self.mb = max(0.0, top - self._before)

    def _sample(self) -> None:
        while not self._is_over.wait(_SAMPLE_S):
            self.mb = max(self.mb, _status_mb("RssAnon") - self._before)


def read_bandwidth() -> float:
    """Bytes per processor second that one thread reads: the faster of a sum and a dot product."""
    data = np.ones(_BANDWIDTH_BYTES // 4, dtype=np.float32)
    best = 0.0
    for read in (data.sum, lambda: data @ data):
        for _ in range(5):
            started = time.process_time()
            read()
            best = max(best, data.nbytes / (time.process_time() - started))
    return best


def _status_mb(field: str) -> float:
    found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    return int(found.group(1)) / 1024.0 if found else 0.0


def _life_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
