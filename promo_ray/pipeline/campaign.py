"""The whole line: every stage in order, each from the artefacts of those before it.

A stage whose artefact was made from the same config, seed and inputs is not run again, so a
campaign resumes where it stopped. A stage whose input is not there is skipped with its reason,
which the report repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from promo_ray.artifacts import ArtifactStore
from promo_ray.artifacts.plan_set import PLAN_SET
from promo_ray.config import config_class
from promo_ray.errors import ConfigError
from promo_ray.execution import Executor, SerialExecutor
from promo_ray.pipeline import (
    allocate,
    bundle,
    design,
    evaluate,
    ingest,
    plans,
    price,
    profile,
    recommend,
    response,
)
from promo_ray.pipeline.allocate import AllocateConfig
from promo_ray.pipeline.bundle import BundleConfig
from promo_ray.pipeline.design import DesignConfig
from promo_ray.pipeline.evaluate import EvaluateConfig
from promo_ray.pipeline.ingest import IngestConfig
from promo_ray.pipeline.plans import NamedPlans, PlansConfig
from promo_ray.pipeline.price import PriceConfig
from promo_ray.pipeline.profile import ProfileConfig
from promo_ray.pipeline.recommend import RecommendConfig
from promo_ray.pipeline.response import ResponseConfig
from promo_ray.pipeline.stage import Context, StageResult, Tuner
from promo_ray.telemetry import SILENT, Progress

STAGES: dict[str, Callable[[Any, Context], StageResult]] = {
    "ingest": ingest.run,
    "profile": profile.run,
    "response": response.run,
    "price": price.run,
    "design": design.run,
    "plans": plans.run,
    "allocate": allocate.run,
    "recommend": recommend.run,
    "evaluate": evaluate.run,
    "bundle": bundle.run,
}


@config_class
class ComputeConfig:
    """How much of a machine a run takes; changes speed, never answers.

    Attributes:
        workers: worker processes; 0 = one per CPU of this machine, or of the cluster where
            `--address` names one (a cluster that scales from zero needs a number).
        gpus_per_worker: GPUs that each worker asks for, >= 0; fractions allowed.
        device: where menus are evaluated: `cpu`, `cuda`, or `auto`.
    """

    workers: Annotated[int, Field(ge=0)] = 0
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0.0
    device: Literal["auto", "cpu", "cuda"] = "cpu"


@config_class
class CampaignConfig:
    """One campaign: a section per stage, all with defaults that run on a laptop.

    Attributes:
        out: URI of the directory for artefacts.
        seed: seed of every random number, >= 0.
        compute: how much of a machine to take.
        plans: lifecycle plans by name, each with its changes, see `promo_ray.design.plans`; none
            = no such stage.
    """

    out: str = "runs/campaign"
    seed: Annotated[int, Field(ge=0)] = 0
    compute: ComputeConfig = ComputeConfig()
    ingest: IngestConfig = IngestConfig()
    profile: ProfileConfig = ProfileConfig()
    response: ResponseConfig = ResponseConfig()
    price: PriceConfig = PriceConfig()
    design: DesignConfig = DesignConfig()
    plans: NamedPlans = field(default_factory=dict)
    allocate: AllocateConfig = AllocateConfig()
    recommend: RecommendConfig = RecommendConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    bundle: BundleConfig = BundleConfig()


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
    config = _with_shared_budget(config)
    context = Context(
        store=store or ArtifactStore(config.out),
        executor=executor or SerialExecutor(),
        seed=config.seed,
        device=config.compute.device,
        progress=progress,
        tune=tune,
        is_forced=is_forced,
    )
    if not config.plans and "plans" in stages and len(stages) > 1:
        stages = [name for name in stages if name != "plans"]
        context.store.remove(PLAN_SET)  # of former settings
    results = []
    for number, name in enumerate(stages, start=1):
        if name not in STAGES:
            raise ConfigError(f"stage must be one of {', '.join(STAGES)}; got {name!r}")
        result = STAGES[name](_settings(config, name), context)
        results.append(result)
        note = result.note or result.status
        context.progress("campaign", number, len(stages), last=name, note=note)
    return results


def _settings(config: CampaignConfig, stage: str) -> Any:
    """The section of a stage; menus of plans are searched as that of the campaign is."""
    if stage == "plans":
        return PlansConfig(plans=config.plans, design=config.design)
    return getattr(config, stage)


def _with_shared_budget(config: CampaignConfig) -> CampaignConfig:
    """The menu is searched under the budgets of the allocation, unless it is told otherwise."""
    design, given = config.design, config.allocate
    if design.budget is None and design.budget_rate is None:
        design = replace(design, budget=given.budget, budget_rate=given.budget_rate)
    if design.contact_rate is None:
        design = replace(design, contact_rate=given.contact_rate)
    return replace(config, design=design)
