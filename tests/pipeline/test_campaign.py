import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from promo_ray.artifacts import ArtifactStore
from promo_ray.artifacts.assignment import ASSIGNMENT
from promo_ray.artifacts.candidates import CANDIDATES
from promo_ray.artifacts.evaluation import EVALUATION
from promo_ray.artifacts.user_profiles import USER_PROFILES
from promo_ray.config import parse
from promo_ray.decisions import Decider, DecisionBundle, DecisionRequest
from promo_ray.errors import ConfigError, NoOfferAllowedError
from promo_ray.pipeline import campaign
from promo_ray.seeding import keys_of

ROOT = Path(__file__).parents[2]
KINDS = {
    "events", "catalog", "users", "campaign_log", "user_profiles", "response_model", "offer_set",
    "price_plan", "candidates", "assignment", "evaluation", "recommender", "decision_bundle",
}  # fmt: skip


def _digests(out: Path) -> dict[str, str]:
    found = {p.parent.name: p for p in out.glob("*/manifest.json")}
    return {name: json.loads(path.read_text())["digest"] for name, path in found.items()}


def _config(settings: dict[str, Any], out: Path, **changes: Any) -> campaign.CampaignConfig:
    return parse(campaign.CampaignConfig, {**settings, **changes, "out": str(out)})


def test_every_stage_leaves_its_artifact_and_nothing_else(small_run: Path) -> None:
    assert {p.name for p in small_run.iterdir()} == KINDS


def test_a_second_run_does_nothing(small_run: Path, small_settings: dict[str, Any]) -> None:
    before = {p: p.stat().st_mtime_ns for p in small_run.rglob("*") if p.is_file()}
    results = campaign.run(_config(small_settings, small_run))
    assert {r.status for r in results} == {"current"}
    assert before == {p: p.stat().st_mtime_ns for p in small_run.rglob("*") if p.is_file()}


def test_no_menu_is_written_when_no_offer_pays(
    small_run: Path, small_settings: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(small_run, out)
    changed = {**small_settings["design"], "fixed_cost": 1e9}
    results = {r.stage: r for r in campaign.run(_config(small_settings, out, design=changed))}
    assert results["design"].status == results["allocate"].status == "skipped"
    assert "no offer is worth its cost" in results["design"].note
    assert not (out / "offer_set").exists()
    assert "no offer is worth its cost" in (out / "evaluation" / "report.html").read_text()


def test_rules_that_allow_no_offer_end_the_run(
    small_run: Path, small_settings: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(small_run, out)
    changed = {**small_settings["design"], "constraints": {"mechanics": []}}
    with pytest.raises(NoOfferAllowedError, match=r"design\.constraints must allow") as caught:
        campaign.run(_config(small_settings, out, design=changed))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("stage", ["design", "allocate"])
def test_a_budget_of_0_is_refused(stage: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{stage}\.budget.* 0"):
        _config({}, tmp_path, **{stage: {"budget": 0}})


def test_a_changed_setting_runs_its_stage_and_those_after_it(
    small_run: Path, small_settings: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(small_run, out)
    results = campaign.run(_config(small_settings, out, allocate={"contact_rate": 0.1}))
    status = {r.stage: r.status for r in results}
    # the menu is designed under the same limit of contacts
    done = ["design", "allocate", "evaluate", "bundle"]
    assert [s for s, v in status.items() if v == "done"] == done
    assignment = ArtifactStore(str(out)).read(ASSIGNMENT)
    n_offered = int((assignment.table("assignment")["slot"].to_numpy() >= 0).sum())
    assert 0 < n_offered <= 0.1 * 1500
    assert assignment.json("solution")["used"][1] == n_offered


def test_the_budget_holds_to_the_last_digit_and_the_bound_is_close(small_run: Path) -> None:
    store = ArtifactStore(str(small_run))
    assignment = store.read(ASSIGNMENT)
    solution = assignment.json("solution")
    table = assignment.table("assignment")
    assert float(np.sum(table["cost"].to_numpy())) <= solution["budgets"][0] * (1 + 1e-12)
    assert 0 <= solution["gap"] < 1e-2
    given = table["slot"].to_numpy() >= 0
    assert given.any()
    assert (table["value"].to_numpy()[given] > 0).all()


def test_no_feature_speaks_of_what_came_after_exposure(small_run: Path) -> None:
    store = ArtifactStore(str(small_run))
    profiles = store.read(USER_PROFILES)
    names = profiles.json("features")["names"]
    assert not [n for n in names if "protected" in n]
    log = json.loads((small_run / "campaign_log" / "design.json").read_text())
    assert log["is_randomized"]
    assert (profiles.table("user_profiles")["recency_days"].drop_null().to_numpy() > 0).all()


def test_what_is_served_is_what_was_assigned(small_run: Path) -> None:
    store = ArtifactStore(str(small_run))
    table = store.read(ASSIGNMENT).table("assignment")
    bundle = DecisionBundle.open(str(small_run / "decision_bundle"))
    decider = Decider(bundle)
    offer_ids = store.read(ASSIGNMENT).json("solution")["offer_ids"]
    rows = bundle.rows_of(keys_of(table["user_id"].to_pylist()))
    assert (rows >= 0).all()
    assert np.array_equal(bundle.profiles(rows).choice, table["slot"].to_numpy())
    n_offered = 0
    for row in table.slice(0, 200).to_pylist():
        decision = decider.decide(DecisionRequest(user_id=row["user_id"]))
        if decision.experiment["is_holdout"]:
            assert decision.offer is None
            continue
        served = None if decision.offer is None else decision.offer["id"]
        assert served == (None if row["slot"] < 0 else offer_ids[row["slot"]])
        n_offered += served is not None
    assert n_offered > 0


def test_the_report_states_gain_truth_and_method(small_run: Path) -> None:
    estimates = ArtifactStore(str(small_run)).read(EVALUATION).json("estimates")
    gain = estimates["policies"]["policy"]["against_none"]
    assert gain["low"] < gain["value"] < gain["high"]
    truth = estimates["truth"]
    assert 0 < truth["oracle_share"] <= 1.0
    assert truth["oracle"] >= truth["oracle_of_menu"] * (1 - 1e-3)
    page = (small_run / "evaluation" / "report.html").read_text()
    for word in ("AIPW", "effective sample", "budget"):
        assert word in page


def test_candidates_are_net_of_contact_cost_and_cost_includes_it(small_run: Path) -> None:
    store = ArtifactStore(str(small_run))
    table = store.read(CANDIDATES).table("candidates")
    cost = np.array(table["cost"].to_pylist())
    assert (cost > 0).all()


def test_stages_without_input_are_skipped_with_the_reason(tmp_path: Path) -> None:
    config = parse(campaign.CampaignConfig, {"out": str(tmp_path)})
    with pytest.raises(ConfigError, match="either a shop to simulate or a data directory"):
        campaign.run(config)
    with pytest.raises(ConfigError, match="stage must be one of"):
        campaign.run(config, stages=["magic"])
    (result,) = campaign.run(config, stages=["allocate"])
    assert result.status == "skipped"
    assert "menu" in result.note


def _job(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


def test_jobs_go_on_from_each_other_and_end_with_one_json_line(
    small_settings: dict[str, Any], tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({**small_settings, "out": str(tmp_path / "out")}))
    for script in ("ingest_events", "profile_users"):
        done = _job(f"jobs/{script}.py", "--config", str(config), "--local")
        assert done.returncode == 0, done.stderr
        line = json.loads(done.stdout.splitlines()[-1])
        assert {"job", "artifact", "digest", "seconds", "metrics"} <= set(line)
        assert len(done.stdout.splitlines()) == 1
    assert line["artifact"].endswith("/user_profiles")
    assert line["digest"] == _digests(tmp_path / "out")["user_profiles"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--set", "allocate.bugdet=5"], 2, "allocate.bugdet"),
        (["--set", "ingest.shop.n_users=-1"], 2, "ingest.shop.n_users"),
        (["--config", "none.yaml"], 2, "none.yaml"),
        (["--data", "/nowhere"], 2, "/nowhere"),
        (["--out", "/proc/nowhere", "--set", "ingest.shop.n_users=50"], 2, "must be writable"),
    ],
)
def test_bad_settings_give_one_line_and_exit_code_2(
    options: list[str], code: int, words: str
) -> None:
    done = _job("jobs/ingest_events.py", "--local", *options)
    assert done.returncode == code
    lines = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert words in lines[0]
    assert "Traceback" not in done.stderr


def test_an_interrupted_run_keeps_whole_artifacts_only_and_goes_on(
    small_settings: dict[str, Any], tmp_path: Path, small_run: Path
) -> None:
    out = tmp_path / "out"
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({**small_settings, "out": str(out)}))
    command = [sys.executable, "jobs/run_campaign.py", "--config", str(config), "--local"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not (out / "user_profiles" / "manifest.json").exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "run again to go on" in errors
    assert "Traceback" not in errors
    assert all((p / "manifest.json").exists() for p in out.iterdir() if p.name in KINDS)
    assert not list(out.glob(".*.partial"))
    done = _job(*command[1:], env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["stages"]["ingest"] == "current"
    assert _digests(out) == _digests(small_run) | {"evaluation": _digests(out)["evaluation"]}
