"""The whole line: every stage in order, each from the artefacts of those before it.

A stage whose artefact was made from the same config, seed and inputs is not run again, so a
campaign resumes where it stopped. A stage whose input is not there is skipped with its reason,
which the report repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from promo_ray.artifacts import ArtifactStore
from promo_ray.config import config_class
from promo_ray.errors import ConfigError
from promo_ray.execution import Executor, SerialExecutor
from promo_ray.pipeline import (
    allocate,
    bundle,
    design,
    evaluate,
    ingest,
    price,
    profile,
    recommend,
    response,
)
from promo_ray.pipeline.stage import Context, StageResult, Tuner
from promo_ray.telemetry import SILENT, Progress

STAGES: dict[str, Callable[[Any, Context], StageResult]] = {
    "ingest": ingest.run,
    "profile": profile.run,
    "response": response.run,
    "price": price.run,
    "design": design.run,
    "allocate": allocate.run,
    "recommend": recommend.run,
    "evaluate": evaluate.run,
    "bundle": bundle.run,
}


@config_class
class ComputeConfig:
    """How much of a machine a run takes; changes speed, never answers.

    Attributes:
        workers: worker processes; 0 = one per CPU.
    """

    workers: int = 0


@config_class
class CampaignConfig:
    """One campaign: a section per stage, all with defaults that run on a laptop.

    Attributes:
        out: URI of the directory for artefacts.
        seed: seed of every random number, >= 0.
        compute: how much of a machine to take.
    """

    out: str = "runs/campaign"
    seed: int = 0
    compute: ComputeConfig = ComputeConfig()
    ingest: ingest.IngestConfig = ingest.IngestConfig()
    profile: profile.ProfileConfig = profile.ProfileConfig()
    response: response.ResponseConfig = response.ResponseConfig()
    price: price.PriceConfig = price.PriceConfig()
    design: design.DesignConfig = design.DesignConfig()
    allocate: allocate.AllocateConfig = allocate.AllocateConfig()
    recommend: recommend.RecommendConfig = recommend.RecommendConfig()
    evaluate: evaluate.EvaluateConfig = evaluate.EvaluateConfig()
    bundle: bundle.BundleConfig = bundle.BundleConfig()


def run(
    config: CampaignConfig,
    executor: Executor | None = None,
    store: ArtifactStore | None = None,
    *,
    stages: Sequence[str] = tuple(STAGES),
    progress: Progress = SILENT,
    tune: Tuner | None = None,
    is_forced: bool = False,
) -> list[StageResult]:
    """Run stages in the given order.

    Args:
        config: every stage's settings.
        executor: where sharded work runs; this process if None.
        store: where artefacts go; `config.out` if None.
        stages: names of stages, see `STAGES`.
        progress: told how far the work is.
        tune: searches pricing hyperparameters on a cluster; in this process if None.
        is_forced: run stages again even if their artefacts are up to date.

    Returns:
        One result per stage. The artefacts are the same bytes for every executor.

    Raises:
        ConfigError: unknown stage.
        PromoRayError: what a stage raises; artefacts of finished stages stay.
    """
    context = Context(
        store=store or ArtifactStore(config.out),
        executor=executor or SerialExecutor(),
        seed=config.seed,
        progress=progress,
        tune=tune,
        is_forced=is_forced,
    )
    results = []
    for number, name in enumerate(stages, start=1):
        if name not in STAGES:
            raise ConfigError(f"stage must be one of {', '.join(STAGES)}; got {name!r}")
        result = STAGES[name](getattr(config, name), context)
        results.append(result)
        note = result.note or result.status
        context.progress("campaign", number, len(stages), last=name, note=note)
    return results
