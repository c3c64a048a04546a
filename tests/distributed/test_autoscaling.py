"""A cluster that grows from nothing for a job's workers and shrinks after it.

The driver is a process of its own: it talks to another Ray than the shared one, with a token.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from local_head import local_head

DRIVER = """
import json, sys, time
import ray
from promo_ray.distributed import RayExecutor, session
from promo_ray.errors import ConfigError

def n_cpus():
    return int(ray.cluster_resources().get("CPU", 0))

def wait_for(n, timeout_s=90):
    end = time.monotonic() + timeout_s
    while n_cpus() != n and time.monotonic() < end:
        time.sleep(0.2)
    return n_cpus()

def connect():
    for _ in range(30):  # the port opens before the head node has registered
        context = session(sys.argv[1])
        try:
            return context, context.__enter__()
        except ConfigError:
            time.sleep(1)
    raise SystemExit("no connection")

context, opened = connect()
counts = {"before": opened.n_cpus, "is_private": opened.is_private}
with RayExecutor(2) as executor:
    total = executor.load(list(range(8))).reduce(lambda shard: shard, lambda a, b: a + b)
    counts["during"] = n_cpus()
counts["total"] = total
counts["after"] = wait_for(0)
context.__exit__(None, None, None)
counts["is_open"] = ray.is_initialized()
print(json.dumps(counts))
"""


@pytest.mark.slow
@pytest.mark.cluster
def test_the_cluster_grows_for_the_workers_of_a_job_and_shrinks_after(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    with local_head(max_workers=2, dashboard=False) as head:
        done = subprocess.run(
            [sys.executable, str(script), head.gcs],
            env={**os.environ, **head.env},
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts == {
        "before": 0,
        "is_private": False,
        "during": 2,
        "total": 28,
        "after": 0,
        "is_open": False,
    }
