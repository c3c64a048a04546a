"""A throw-away head node with private ports, for tests; a fake autoscaler on request.

Never calls `ray stop`, which ends every Ray on the host, and does not import ray, which reads the
authentication settings at its first import.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Ray's fake provider, addressed as an external module: the wheel lacks the file of defaults that
# provider type "fake_multinode" (and ray.cluster_utils.AutoscalingCluster) wants to open
_PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
_HEAD_ID = "f" * 51 + "00000"
_HEAD_TYPE = "ray.head.default"  # the fake provider knows its head under this name only
_COMMAND_LISTS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
    "cluster_synced_files",
    "rsync_exclude",
    "rsync_filter",
)


class Head(NamedTuple):
    """Addresses of a running head, and the environment that a client needs."""

    gcs: str
    dashboard: str
    env: dict[str, str]


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(n)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in socks]


def _node_ip() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 80))  # no packet is sent
            return str(sock.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _autoscaler_config(gcs: str, max_workers: int, idle_minutes: float) -> dict[str, Any]:
    worker = {
        "resources": {"CPU": 1, "object_store_memory": 100 * 2**20},
        "node_config": {},
        "min_workers": 0,
        "max_workers": max_workers,
    }
    return {
        "cluster_name": "fake",
        "max_workers": max_workers,
        "upscaling_speed": 100.0,
        "idle_timeout_minutes": idle_minutes,
        "provider": {
            "type": "external",
            "module": _PROVIDER,
            "gcs_address": gcs,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": _HEAD_ID,
        },
        "available_node_types": {
            _HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "cpu_worker": worker,
        },
        "head_node_type": _HEAD_TYPE,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in _COMMAND_LISTS},
    }


def _command(ports: list[int], num_cpus: int, dashboard: bool, temp_dir: Path) -> list[str]:
    gcs, http, agent, client = ports
    return [
        str(Path(sys.executable).parent / "ray"),
        "start",
        "--head",
        "--block",
        f"--port={gcs}",
        f"--num-cpus={num_cpus}",
        "--object-store-memory=157286400",
        f"--temp-dir={temp_dir}",
        f"--include-dashboard={str(dashboard).lower()}",
        f"--dashboard-port={http}",
        f"--dashboard-agent-listen-port={agent}",
        f"--ray-client-server-port={client}",
        "--min-worker-port=0",
        "--max-worker-port=0",
    ]


def _answers(head: Head, dashboard: bool) -> bool:
    try:
        if dashboard:
            token = {"Authorization": f"Bearer {head.env['RAY_AUTH_TOKEN']}"}
            request = urllib.request.Request(f"{head.dashboard}/api/version", headers=token)
            with urllib.request.urlopen(request, timeout=2):
                return True
        host, _, port = head.gcs.partition(":")
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def local_head(
    *,
    num_cpus: int = 2,
    max_workers: int = 0,
    dashboard: bool = True,
    idle_minutes: float = 0.1,
    wait_s: float = 120.0,
) -> Iterator[Head]:
    """Run a head node in processes of its own; with `max_workers`, a head of 0 CPUs that grows."""
    ports = _free_ports(4)
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    head = Head(f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", token)
    env = {**os.environ, **token, "RAY_USAGE_STATS_ENABLED": "0"}
    env.pop("RAY_ADDRESS", None)
    temp_dir = Path(tempfile.mkdtemp(prefix="rh", dir="/tmp"))  # short: limit of socket paths
    command = _command(ports, 0 if max_workers else num_cpus, dashboard, temp_dir)
    if max_workers:
        # without gcs_address the provider would dial port 6379
        config = _autoscaler_config(f"{_node_ip()}:{ports[0]}", max_workers, idle_minutes)
        (temp_dir / "autoscaler.json").write_text(json.dumps(config))
        command.append(f"--autoscaling-config={temp_dir / 'autoscaler.json'}")
        env |= {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": _HEAD_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
        }
    with open(temp_dir / "head.log", "w") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + wait_s
        while not _answers(head, dashboard):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((temp_dir / "head.log").read_text()[-2000:])
            time.sleep(0.2)
        yield head
    finally:
        process.terminate()  # --block hands the end on to its children
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(40)
        with contextlib.suppress(ProcessLookupError):  # fake nodes leave a log_monitor behind
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(temp_dir, ignore_errors=True)
