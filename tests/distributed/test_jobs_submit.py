"""`ray job submit` to a head with token authentication, as on a real cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from local_head import Head, local_head

JOB = """
import json, sys
from promo_ray.distributed import RayExecutor, session
from promo_ray.errors import DataError

def square(shard, bad):
    if shard == bad:
        raise DataError("must be small", where=f"shard {shard}")
    return shard * shard

with session("auto") as opened, RayExecutor(2) as executor:
    total = executor.load(list(range(10))).reduce(square, lambda a, b: a + b, int(sys.argv[1]))
print(json.dumps({"total": total, "n_cpus": opened.n_cpus, "is_private": opened.is_private}))
"""


def _submit(head: Head, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    ray = str(Path(sys.executable).parent / "ray")
    command = [ray, "job", "submit", "--address", head.dashboard, "--working-dir", str(folder)]
    return subprocess.run(
        [*command, "--", sys.executable, "job.py", *arguments],
        env={**os.environ, **head.env},
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.slow
@pytest.mark.cluster
def test_a_submitted_job_runs_on_the_cluster_and_its_failure_is_seen(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    with local_head(num_cpus=2) as head:
        done = _submit(head, tmp_path, "-1")
        failed = _submit(head, tmp_path, "4")
        strangers = Head(head.gcs, head.dashboard, {**head.env, "RAY_AUTH_TOKEN": "0" * 64})
        refused = _submit(strangers, tmp_path, "-1")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"total"')]
    assert json.loads(lines[-1]) == {"total": 285, "n_cpus": 2, "is_private": False}
    assert failed.returncode == 1
    assert "promo_ray.errors.DataError: shard 4: must be small" in failed.stdout + failed.stderr
    assert refused.returncode != 0


@pytest.mark.slow
@pytest.mark.cluster
def test_the_whole_campaign_runs_as_a_submitted_job_and_a_stage_alone_goes_on(
    tmp_path: Path,
) -> None:
    root = Path(__file__).parents[2]
    ray = str(Path(sys.executable).parent / "ray")
    options = ["--config", "jobs/configs/small_shop.yaml", "--address", "auto"]
    options += ["--out", str(tmp_path / "out")]
    with local_head(num_cpus=2) as head:
        submit = [ray, "job", "submit", "--address", head.dashboard, "--working-dir", str(root)]
        for script in ("run_campaign", "evaluate_effect"):
            done = subprocess.run(
                [*submit, "--", sys.executable, f"jobs/{script}.py", *options],
                env={**os.environ, **head.env},
                capture_output=True,
                text=True,
                timeout=400,
            )
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"job"')]
    assert json.loads(lines[-1])["stages"] == {"evaluate": "current"}
    assert (tmp_path / "out" / "evaluation" / "report.html").exists()
