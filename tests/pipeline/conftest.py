"""One small campaign, run once in this process and shared by the tests of the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from promo_ray.artifacts import ArtifactStore, kinds
from promo_ray.config import parse
from promo_ray.pipeline import campaign

SMALL: dict[str, Any] = {
    "seed": 3,
    "ingest": {"shop": {"n_users": 1500, "n_items": 60, "seed": 3}},
    "price": {"n_trials": 3},
    "design": {"max_evals": 1000, "n_sample": 500},
    "evaluate": {"n_boot": 10},
}


def digests(out: str | Path) -> dict[str, str]:
    """Digest of every artefact in a store."""
    store = ArtifactStore(str(out))
    found = {name: store.find(kind) for name, kind in kinds().items()}
    return {name: manifest.digest for name, manifest in found.items() if manifest is not None}


@pytest.fixture(scope="session")
def small_settings() -> dict[str, Any]:
    return SMALL


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the finished campaign; do not change it."""
    out = tmp_path_factory.mktemp("small_run")
    campaign.run(parse(campaign.CampaignConfig, {**SMALL, "out": str(out)}))
    return out
