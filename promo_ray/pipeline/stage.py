"""What all stages share: skip work that is up to date, report what was done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from promo_ray.artifacts import Artifact, ArtifactStore, Kind, Manifest
from promo_ray.config import resolve
from promo_ray.execution import Executor
from promo_ray.telemetry import SILENT, Progress

Tuner = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where and how the stages of one campaign work.

    Attributes:
        store: artefacts of the run.
        executor: runs work on shards.
        seed: seed of the run.
        device: where menus are evaluated: `cpu`, `cuda`, or `auto`.
        progress: told how far long work is.
        is_forced: run stages again even if their artefacts are up to date.
        tune: searches pricing hyperparameters on a cluster; None = in this process.
    """

    store: ArtifactStore
    executor: Executor
    seed: int = 0
    device: str = "cpu"
    progress: Progress = SILENT
    is_forced: bool = False
    tune: Tuner | None = None

    def inputs(self, *kinds: Kind) -> dict[str, str]:
        """Digest of each input artefact that is there, by kind."""
        found = {kind.name: self.store.find(kind) for kind in kinds}
        return {name: manifest.digest for name, manifest in found.items() if manifest}

    def has(self, kind: Kind) -> bool:
        """Whether the run has a committed artefact of the kind."""
        return self.store.find(kind) is not None

    def is_current(self, kind: Kind, config: Any, inputs: Mapping[str, str]) -> bool:
        """Whether the kind's artefact was made from this config, seed and inputs."""
        return not self.is_forced and self.store.is_current(
            kind, resolve(config), self.seed, inputs
        )


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """Outcome of a stage.

    Attributes:
        stage: name of the stage.
        status: `done`, `current` (nothing to do) or `skipped`.
        note: why it was skipped, or a few words on the result.
        artifacts: digest by kind of artefact.
        seconds: wall time.
        metrics: scalars of the result.
    """

    stage: str
    status: str
    note: str = ""
    artifacts: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    metrics: Mapping[str, Any] = field(default_factory=dict)


def skipped(stage: str, why: str, context: Context, kinds: Iterable[Kind]) -> StageResult:
    """Result of a stage whose input is not there; what it left from other input goes."""
    for kind in kinds:
        context.store.remove(kind)
    return StageResult(stage=stage, status="skipped", note=why)


def finished(stage: str, context: Context, kinds: Iterable[Kind], started: float) -> StageResult:
    """Result of a stage that has just committed artefacts of `kinds`."""
    return _result(stage, "done", context, kinds, time.perf_counter() - started)


def current(stage: str, context: Context, kinds: Iterable[Kind]) -> StageResult:
    """Result of a stage whose artefacts are up to date."""
    return _result(stage, "current", context, kinds, 0.0)


def _result(
    stage: str, status: str, context: Context, kinds: Iterable[Kind], seconds: float
) -> StageResult:
    found: list[Manifest] = [m for kind in kinds if (m := context.store.find(kind)) is not None]
    metrics: dict[str, Any] = {}
    for manifest in found:
        metrics |= manifest.metrics
    digests = {m.kind: m.digest for m in found}
    return StageResult(
        stage=stage, status=status, artifacts=digests, seconds=seconds, metrics=metrics
    )


def optional(context: Context, kind: Kind) -> Artifact | None:
    """The run's artefact of a kind, or None."""
    return context.store.read(kind) if context.has(kind) else None
