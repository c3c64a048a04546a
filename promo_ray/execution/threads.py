"""One thread per process of work: results must not depend on the size of a thread pool."""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Iterator

from threadpoolctl import threadpool_limits

_is_limited: contextvars.ContextVar[bool] = contextvars.ContextVar("is_limited", default=False)


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Limit BLAS, OpenMP and torch (if it is loaded) to one thread inside the block.

    Looking for the libraries takes milliseconds, so blocks within a block do nothing.
    """
    if _is_limited.get():
        yield
        return
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 1
    if torch is not None:
        torch.set_num_threads(1)
    token = _is_limited.set(True)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        _is_limited.reset(token)
        if torch is not None:
            torch.set_num_threads(before)
