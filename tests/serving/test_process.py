"""The service as a process of its own: start, serve, swap, stop."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from shop_bundle import make_content, write

from promo_ray.decisions import Ledger

pytestmark = pytest.mark.serving

COMMAND = "import typer; from promo_ray.cli.serve import serve_command; typer.run(serve_command)"


class Server:
    """`promo-ray serve --local` on a free port."""

    def __init__(self, bundle: str, ledger: Path, *options: str) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        places = ["--bundle", bundle, "--ledger", str(ledger), "--port", str(port)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "--local", *places, *options],
            stderr=subprocess.PIPE,
            text=True,
        )

    def is_ready(self) -> bool:
        try:
            return httpx.get(self.url + "/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.communicate(timeout=20)
        return self.process.returncode


@pytest.fixture
def server(tmp_path: Path, wait_until: Callable[..., None]) -> Iterator[Server]:
    server = Server(write(tmp_path / "models", make_content()), tmp_path / "l.db")
    try:
        wait_until(server.is_ready)
        yield server
    finally:
        server.stop()


def test_a_swap_under_load_fails_no_request_and_a_signal_ends_it_cleanly(
    server: Server, tmp_path: Path
) -> None:
    write(tmp_path / "models", make_content(policy_version="p2"), "v2")
    answers: list[tuple[int, str]] = []
    stop = threading.Event()

    def hammer() -> None:
        with httpx.Client(base_url=server.url) as client:
            while not stop.is_set():
                answer = client.post("/v1/decisions", json={"user_id": "u0000000"})
                version = answer.json().get("policy", {}).get("policy_version", "")
                answers.append((answer.status_code, version))

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in ("v2", "v1", "v2"):
        answer = httpx.post(f"{server.url}/v1/models/{version}:activate", timeout=20)
        assert answer.status_code == 200
        stop.wait(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(answers) == {(200, "p1"), (200, "p2")}
    assert server.stop() == 0
    with Ledger(tmp_path / "l.db") as ledger:
        assert ledger.count_decisions() == len(answers)


def test_a_killed_server_forgets_no_answer_and_starts_again_on_its_ledger(
    server: Server, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    with httpx.Client(base_url=server.url) as client:
        told = [client.post("/v1/decisions", json={"user_id": "u0000000"}).json() for _ in "abc"]
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    again = Server(str(tmp_path / "models" / "v1"), tmp_path / "l.db")
    try:
        wait_until(again.is_ready)
        for decision in told:
            path = f"/v1/decisions/{decision['decision_id']}"
            assert httpx.get(again.url + path).json()["offer"] == decision["offer"]
    finally:
        assert again.stop(signal.SIGINT) == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--local", "--host", "0.0.0.0"], "PROMO_RAY_SERVE_TOKEN must be set"),
        (["--local", "--bundle", "nowhere"], "artefact 'decision_bundle' must be in"),
        ([], "serve must be given --local"),
    ],
)
def test_it_refuses_to_start_in_one_line_with_exit_code_2(
    tmp_path: Path, options: list[str], text: str
) -> None:
    places = ["--bundle", write(tmp_path / "models", make_content())]
    places += ["--ledger", str(tmp_path / "l.db")]
    run = subprocess.run(
        [sys.executable, "-c", COMMAND, *places, *options],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "PROMO_RAY_SERVE_TOKEN"},
        timeout=60,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr.startswith("error: ")
    assert run.stderr.count("\n") == 1
    assert text in run.stderr
