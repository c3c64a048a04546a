"""The whole line gives the same bytes in one process and on any number of Ray workers."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from promo_ray.artifacts import ArtifactStore, kinds
from promo_ray.config import load, parse
from promo_ray.distributed import RayExecutor
from promo_ray.pipeline import campaign

ROOT = Path(__file__).parents[2]
SAME = ("events", "users", "campaign_log", "user_profiles", "response_model", "offer_set",
        "plan_set", "candidates", "assignment", "recommender")  # fmt: skip
STAGES = ("ingest", "profile", "response", "design", "plans", "allocate", "recommend")
SMALL: dict[str, Any] = {
    "seed": 5,
    "ingest": {"shop": {"n_users": 1200, "n_items": 60, "seed": 5}},
    "design": {"max_evals": 1000, "n_sample": 400},
    "plans": {
        "win_back": {},
        "member": {
            "mechanics": ["percent_off", "gift"],
            "gifts": [{"sku": "mug", "unit_cost": 1, "perceived_value": 4}],
        },
    },
}
RICH: dict[str, Any] = {
    "max_evals": 1000,
    "n_sample": 300,
    "support": "wide",
    "wide": {"steps": {"depth_rates": [0.1, 0.25], "amount_rates": [0.1]}, "n_bundles": 2},
    "segments": "segment",
    "windows": [{"name": "at weekends", "share": 0.4, "weekdays": ["sat", "sun"]}],
    "channels": [{"name": "letter", "contact_cost": 0.1}],
    "robustness": 0.5,
    "n_refits": 2,
}

pytestmark = pytest.mark.ray


def _digests(config: campaign.CampaignConfig, executor: Any) -> dict[str, str]:
    campaign.run(config, executor, stages=STAGES)
    store = ArtifactStore(config.out)
    return {name: store.read(kinds()[name]).digest for name in SAME}


def _compare(base: campaign.CampaignConfig, settings: dict[str, Any], tmp_path: Path) -> None:
    alone = _digests(base, None)
    for n_workers in (1, 2, 4):
        out = str(tmp_path / f"ray{n_workers}")
        config = parse(campaign.CampaignConfig, {**settings, "out": out})
        with RayExecutor(n_workers, num_cpus_per_worker=0.5) as executor:
            assert _digests(config, executor) == alone, f"{n_workers} workers"


def test_a_small_campaign_has_the_same_bytes_on_any_number_of_workers(
    ray_session: Any, tmp_path: Path
) -> None:
    config = parse(campaign.CampaignConfig, {**SMALL, "out": str(tmp_path / "serial")})
    _compare(config, SMALL, tmp_path)


def test_segments_windows_channels_wide_grid_and_robustness_have_the_same_bytes(
    ray_session: Any, tmp_path: Path
) -> None:
    shop = {"n_users": 600, "n_items": 40, "n_categories": 4, "n_past_offers": 4, "seed": 5}
    settings = {**SMALL, "ingest": {"shop": shop}, "design": RICH}
    alone, on_ray = str(tmp_path / "serial"), str(tmp_path / "ray")
    config = parse(campaign.CampaignConfig, {**settings, "out": alone})
    campaign.run(config, stages=STAGES[:3])
    shutil.copytree(alone, on_ray)
    later = ("design", "allocate")
    campaign.run(config, stages=later)
    config = parse(campaign.CampaignConfig, {**settings, "out": on_ray})
    with RayExecutor(2, num_cpus_per_worker=0.5) as executor:
        campaign.run(config, executor, stages=later)
    found = [
        [ArtifactStore(out).read(kinds()[name]).digest for name in ("offer_set", "assignment")]
        for out in (alone, on_ray)
    ]
    assert found[0] == found[1]


@pytest.mark.slow
def test_the_demo_has_the_same_bytes_on_any_number_of_workers(
    ray_session: Any, tmp_path: Path
) -> None:
    overrides = [f"out={tmp_path / 'serial'}"]
    file = ROOT / "jobs" / "configs" / "demo.yaml"
    config = load(campaign.CampaignConfig, file, overrides)
    _compare(config, yaml.safe_load(file.read_text()), tmp_path)
