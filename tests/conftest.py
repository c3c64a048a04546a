"""Shared runtimes: one Ray and one Serve per test session, and none for unit tests.

Ray and Serve read the environment at their first import, hence the order of this file.
"""

import os

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # private runtime, no token file written
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
os.environ.setdefault("RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S", "1")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("RAY_ADDRESS", None)  # never a cluster that somebody left running

import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest
import ray

sys.path.insert(0, str(Path(__file__).parent / "distributed"))  # for local_head

# The same examples in every run; `HYPOTHESIS_PROFILE=default` looks for new ones.
hypothesis.settings.register_profile("fixed", derandomize=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

_MAY_USE_RAY = ("ray", "serving", "cluster")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(autouse=True)
def _no_ray_in_unit_tests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that starts Ray, on purpose or by an implicit start, must carry a marker."""
    if any(request.node.get_closest_marker(name) for name in _MAY_USE_RAY):
        return
    if {"ray_session", "serve_session", "serve_app"} & set(request.fixturenames):
        pytest.fail(f"a test that uses Ray must be marked with one of {', '.join(_MAY_USE_RAY)}")

    def refuse(*_args: object, **_kwargs: object) -> NoReturn:
        pytest.fail(f"unit tests must not start Ray; mark with one of {', '.join(_MAY_USE_RAY)}")

    monkeypatch.setattr(ray, "init", refuse)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[Any]:
    """A private Ray with 4 logical CPUs for the whole session."""
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=256 * 2**20,
        namespace="test",
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def serve_session(ray_session: Any) -> Iterator[str]:
    """Serve on the shared Ray; yields the base URL."""
    from ray import serve
    from ray.serve.config import HTTPOptions

    port = free_port()
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port))
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


@pytest.fixture
def serve_app(serve_session: str) -> Iterator[str]:
    """Base URL of Serve; every application of the test is deleted after it."""
    from ray import serve

    yield serve_session
    for name in list(serve.status().applications):
        serve.delete(name)


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """`wait_until(condition, timeout_s)` polls, and fails the test when time is up."""

    def wait(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"condition must hold within {timeout_s} s")
            time.sleep(0.05)

    return wait
