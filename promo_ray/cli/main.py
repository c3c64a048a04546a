"""Command line `promo-ray`: the same stages as the jobs, and serve, simulate, bench, doctor."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer

from promo_ray import __version__
from promo_ray.cli.islands import islands_command
from promo_ray.cli.job import ConfigOption, SetOption, stage_command
from promo_ray.cli.serve import serve_command
from promo_ray.config import parse, read_settings
from promo_ray.errors import PromoRayError
from promo_ray.pipeline import STAGE_NAMES
from promo_ray.telemetry import json_line

app = typer.Typer(
    help="Learn, design, price, allocate, prove and serve promotions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

BENCHMARKS = (
    "ab", "allocation", "allocation_gpu", "design", "islands", "offers", "online", "ope",
    "optimizers", "optimizers_gpu", "simulator", "uplift",
)  # fmt: skip
_HELP = {
    "run": "Run the whole line; finished stages are not run again.",
    "ingest": "Read, check and shard the data of a shop, or simulate one.",
    "profile": "Describe every user: RFM, segments, clusters, features.",
    "fit": "Learn how each user responds to offers.",
    "price": "Estimate elasticities, tune and plan list prices.",
    "design": "Search the menu of offers.",
    "plans": "Design the lifecycle plans that the config names.",
    "allocate": "Decide who gets which offer within the budget.",
    "recommend": "Popular items, neighbors and top items per user.",
    "evaluate": "Prove what the policy earns and write the report.",
    "bundle": "Write the bundle that serving loads.",
}
_STAGES_OF = {"run": list(STAGE_NAMES), "fit": ["response"]}


for _name, _help in _HELP.items():
    app.command(_name, help=_help)(stage_command(_name, _STAGES_OF.get(_name, [_name])))

app.command("islands", help="Show how a search by islands went, from its checkpoint.")(
    islands_command
)
app.command("serve", help="Answer decisions over HTTP from a bundle.")(serve_command)


@app.command()
def simulate(
    out: Annotated[str, typer.Option(help="Directory for the tables, as parquet.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Write the tables of a simulated shop in the form that own data come in."""
    from promo_ray.data.simulate import Shop  # not on top: see cli.job

    try:
        shop = parse(Shop, read_settings(config, overrides or ()), where=config or "shop")
    except PromoRayError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(error.exit_code) from error
    directory = Path(out)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.stderr.write(f"error: output must be writable; {out}: {error.strerror}\n")
        raise typer.Exit(2) from error
    ids = shop.user_ids()
    tables = {
        "users": shop.users(ids),
        "events": shop.events(ids),
        "catalog": shop.catalog(),
        "campaign_log": shop.campaign_log(ids),
        "offers": shop.past_offers(),
    }
    for name, table in tables.items():
        pq.write_table(table, directory / f"{name}.parquet", compression="zstd")
    rows = {name: table.num_rows for name, table in tables.items()}
    sys.stdout.write(json_line({"job": "simulate", "artifact": out, "rows": rows}) + "\n")


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(BENCHMARKS)}.")],
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, about a minute.")] = False,
) -> None:
    """Measure against named baselines in the same run; prints one JSON record per line."""
    if name not in BENCHMARKS:
        known = ", ".join(BENCHMARKS)
        sys.stderr.write(f"error: benchmark must be one of {known}; got {name!r}\n")
        raise typer.Exit(2)
    for record in importlib.import_module(f"promo_ray.bench.{name}").run(quick=quick):
        sys.stdout.write(json_line(record) + "\n")
        sys.stdout.flush()


@app.command()
def doctor() -> None:
    """Say what this machine offers, and what a user should know before a run."""
    packages = ("ray", "torch", "numpy", "pyarrow", "scikit-learn", "apsw", "optuna")
    sys.stdout.write(f"promo_ray      {__version__}\npython         {platform.python_version()}\n")
    for name in packages:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = "not installed"
        sys.stdout.write(f"{name:<14} {version}\n")
    free = shutil.disk_usage(".").free // 2**30
    sys.stdout.write(f"CPUs           {os.cpu_count()}\nfree disk      {free} GiB\n")
    from promo_ray.offers.native import kernel  # not on top: see cli.job
    from promo_ray.optimizers import gpu, native

    words = "compiled" if native.kernel else "missing, searches take five times as long: reinstall"
    sys.stdout.write(f"CPU kernels    {words}\n")
    words = "compiled" if kernel else "missing, many carts take a hundred times as long: reinstall"
    sys.stdout.write(f"cart pricer    {words}\n")
    words = "ready" if gpu.kernels else "missing, tensor code instead: pip install triton"
    sys.stdout.write(f"GPU kernels    {words}\n")
    has_key = "PROMO_RAY_PSEUDONYM_KEY" in os.environ
    words = "set" if has_key else "not set: user ids of real data are stored as they are"
    sys.stdout.write(f"pseudonym key  {words}\n")
