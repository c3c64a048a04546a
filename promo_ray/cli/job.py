"""One way to run stages from a shell: the jobs and the command line both end here.

The last line of standard output is one JSON object; progress goes to standard error. Exit codes:
0 ok, 1 failure, 2 bad config or data, 3 infeasible.

The stages and Ray are imported when a job runs, not on top: they load torch, scikit-learn and more,
which a help text or the decision endpoint must not wait for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from promo_ray.cli.progress import show_progress
from promo_ray.config import parse, read_settings
from promo_ray.errors import ConfigError, PromoRayError
from promo_ray.execution import Executor, SerialExecutor
from promo_ray.telemetry import json_line

if TYPE_CHECKING:
    from promo_ray.pipeline.campaign import CampaignConfig
    from promo_ray.pipeline.stage import StageResult, Tuner

ConfigOption = Annotated[str | None, typer.Option("--config", help="YAML file of the campaign.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override, for example allocate.budget=5000.")
]
AddressOption = Annotated[
    str, typer.Option(help="Ray to use: local (a private one), auto, or ray://host:port.")
]
OutOption = Annotated[
    str | None, typer.Option(help="URI for artefacts; the config's `out` if not given.")
]
LocalOption = Annotated[
    bool, typer.Option("--local", help="Run in this process, without Ray; a debugger works.")
]
WorkersOption = Annotated[
    int | None, typer.Option(help="Worker processes; the number of CPUs if not given.")
]
DataOption = Annotated[
    str | None, typer.Option("--data", help="Directory of real data instead of a simulated shop.")
]
AdapterOption = Annotated[
    str | None, typer.Option(help="Adapter for --data; found by the files if not given.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Run stages again even if they are up to date.")
]


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Options that every job takes; see the help texts above."""

    config: str | None = None
    overrides: Sequence[str] = ()
    address: str = "local"
    out: str | None = None
    is_local: bool = False
    workers: int | None = None
    data: str | None = None
    adapter: str | None = None
    is_forced: bool = False


def load_config(options: JobOptions) -> CampaignConfig:
    """Campaign config from file, overrides and the options that stand for settings."""
    from promo_ray.pipeline.campaign import CampaignConfig

    settings: dict[str, Any] = read_settings(options.config, options.overrides)
    if options.adapter is not None and options.data is None:
        raise ConfigError("--adapter goes with --data DIR; got it alone")
    if options.data is not None:
        ingest = dict(_section(settings, "ingest"))
        ingest.pop("shop", None)
        ingest["data"] = options.data
        if options.adapter is not None:
            ingest["adapter"] = options.adapter
        settings["ingest"] = ingest
    if options.out is not None:
        settings["out"] = options.out
    if options.workers is not None:
        settings["compute"] = {**_section(settings, "compute"), "workers": options.workers}
    return parse(CampaignConfig, settings, where=options.config or "config")


def _section(settings: dict[str, Any], name: str) -> dict[str, Any]:
    section = settings.get(name) or {}
    if not isinstance(section, dict):
        raise ConfigError(f"config: {name} must be a section; got {section!r}")
    return section


@contextlib.contextmanager
def _open_executor(
    config: CampaignConfig, options: JobOptions
) -> Iterator[tuple[Executor, Tuner | None]]:
    if options.is_local:
        yield SerialExecutor(), None
        return
    from promo_ray.distributed.executor import RayExecutor
    from promo_ray.distributed.session import session
    from promo_ray.distributed.tuning import tune_pricing

    is_private = options.address == "local"
    own = config.compute.workers or len(os.sched_getaffinity(0))
    with session(options.address, n_workers=own if is_private else None) as opened:
        # one worker per CPU, each asking for half of it: the trials of the pricing search need
        # the rest, and would wait for ever without it
        executor = RayExecutor(
            n_workers=own if is_private else config.compute.workers or max(1, opened.n_cpus),
            num_cpus_per_worker=0.5,
            num_gpus_per_worker=config.compute.gpus_per_worker,
        )
        try:
            yield executor, tune_pricing
        finally:
            executor.close()


def run_job(job: str, stages: Sequence[str], options: JobOptions) -> int:
    """Run stages and print the JSON line.

    Args:
        job: name in the JSON line.
        stages: names of stages, in order; see `campaign.STAGES`.
        options: where and how.

    Returns:
        Exit code.
    """
    logging.basicConfig(level=os.environ.get("PROMO_RAY_LOG", "WARNING"))
    from promo_ray.pipeline import campaign

    started = time.perf_counter()
    try:
        config = load_config(options)
        with show_progress() as progress, _open_executor(config, options) as (executor, tune):
            results = campaign.run(
                config,
                executor,
                stages=stages,
                progress=progress,
                tune=tune,
                is_forced=options.is_forced,
            )
    except PromoRayError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("stopped: finished stages are kept; run again to go on\n")
        return 1
    sys.stdout.write(_summary(job, config.out, results, time.perf_counter() - started) + "\n")
    last = results[-1]
    if len(stages) == 1 and last.status == "skipped":
        sys.stderr.write(f"error: {job} needs the results of earlier stages: {last.note}\n")
        return 2
    return 0


def _summary(job: str, out: str, results: Sequence[StageResult], seconds: float) -> str:
    last = next((r for r in reversed(results) if r.artifacts), None)
    kind, digest = list(last.artifacts.items())[-1] if last else ("", "")
    return json_line(
        {
            "job": job,
            "artifact": f"{out.rstrip('/')}/{kind}" if kind else None,
            "digest": digest,
            "seconds": round(seconds, 3),
            "stages": {r.stage: r.status for r in results},
            "stage_seconds": {r.stage: round(r.seconds, 3) for r in results},
            "skipped": {r.stage: r.note for r in results if r.status == "skipped"},
            "metrics": {r.stage: r.metrics for r in results if r.metrics},
        }
    )


def stage_command(job: str, stages: Sequence[str]) -> Callable[..., None]:
    """Function with every job's options that runs `stages` and exits."""

    def command(
        config: ConfigOption = None,
        overrides: SetOption = None,
        address: AddressOption = "local",
        out: OutOption = None,
        local: LocalOption = False,
        workers: WorkersOption = None,
        data: DataOption = None,
        adapter: AdapterOption = None,
        force: ForceOption = False,
    ) -> None:
        options = JobOptions(
            config=config,
            overrides=overrides or (),
            address=address,
            out=out,
            is_local=local,
            workers=workers,
            data=data,
            adapter=adapter,
            is_forced=force,
        )
        raise typer.Exit(run_job(job, stages, options))

    return command


def job_command(job: str, stages: Sequence[str]) -> typer.Typer:
    """Typer application of one job script."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=f"Run {job}: {', '.join(stages)}.")(stage_command(job, stages))
    return app
