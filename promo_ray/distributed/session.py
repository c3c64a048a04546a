"""A connection to Ray for the length of a block: a private runtime, or a cluster that runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import ray

from promo_ray.distributed.worker import ONE_THREAD
from promo_ray.errors import ConfigError


class Session(NamedTuple):
    """What `session` opened.

    Attributes:
        n_cpus: logical CPUs of the cluster at this moment; an autoscaling one may have 0.
        is_private: whether the runtime was started here and ends with the block.
    """

    n_cpus: int
    is_private: bool


@contextlib.contextmanager
def _one_thread_for_children() -> Iterator[None]:
    """Workers inherit the environment of the moment: each computes on one thread."""
    before = dict(os.environ)
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name in ONE_THREAD:
            os.environ.pop(name)
            if name in before:
                os.environ[name] = before[name]


def _connect(address: str, n_workers: int | None, object_store_bytes: int | None) -> None:
    if address == "local":
        with _one_thread_for_children():
            ray.init(
                address="local",
                num_cpus=max(n_workers or 0, os.cpu_count() or 1),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=object_store_bytes,
            )
        return
    try:
        # no num_cpus: a running cluster has its own. "auto" inside a job means the job's cluster
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"address must be local or a running Ray cluster; got {address!r}: "
            f"{str(error).strip().splitlines()[0]}"
        ) from error


@contextlib.contextmanager
def session(
    address: str = "local",
    n_workers: int | None = None,
    *,
    object_store_bytes: int | None = None,
) -> Iterator[Session]:
    """Connect to Ray for the length of a block; only what was started here is shut down.

    A Ray connection that this process already has is used as it is and stays open.

    Args:
        address: `local` starts a private runtime on this machine (no dashboard, loopback, token
            authentication as Ray's default); `auto` takes the cluster of this machine or of the
            Ray job that this process is; `host:port` or `ray://host:port` names one.
        n_workers: logical CPUs of a private runtime are at least this many.
        object_store_bytes: shared memory of a private runtime; Ray's default if None.

    Yields:
        What was opened.

    Note:
        Ray reads `RAY_AUTH_MODE` and `RAY_AUTH_TOKEN` at its first import, which is that of this
        package; for a cluster with token authentication they must be set before.

    Raises:
        ConfigError: no cluster answers at the address, or `n_workers` < 1.
    """
    if n_workers is not None and n_workers < 1:
        raise ConfigError(f"n_workers must be >= 1; got {n_workers}")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a notice
    was_open = ray.is_initialized()
    if not was_open:
        _connect(address, n_workers, object_store_bytes)
    try:
        n_cpus = int(ray.cluster_resources().get("CPU", 0))
        yield Session(n_cpus, is_private=address == "local" and not was_open)
    finally:
        if not was_open:
            ray.shutdown()
