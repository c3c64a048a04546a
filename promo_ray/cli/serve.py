"""`promo-ray serve --local`: the decision service in this process, under uvicorn."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from fastapi import FastAPI

from promo_ray.decisions.api import create_app
from promo_ray.decisions.edge import TOKEN_VARIABLE, check_exposure
from promo_ray.errors import ConfigError, OutputError, PromoRayError

_GRACE_S = 10  # requests under way get so long to finish


def serve_command(
    bundle: Annotated[
        str, typer.Option(help="Decision bundle: its directory or the run's directory.")
    ] = "runs/demo/decision_bundle",
    host: Annotated[
        str, typer.Option(help=f"Address; any but loopback needs {TOKEN_VARIABLE}.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    ledger: Annotated[
        Path, typer.Option(help="Ledger file on a local disk, made if absent.")
    ] = Path("runs/serve/ledger.db"),
    models_root: Annotated[
        str | None, typer.Option(help="Directory of runs whose bundles can be activated.")
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Serve in this process, without Ray.")
    ] = False,
) -> None:
    """Serve decisions until SIGINT or SIGTERM; requests under way are finished."""
    try:
        if not local:
            raise ConfigError(
                "serve must be given --local to serve in this process; "
                "on Ray it is `serve deploy serve/config.yaml`"
            )
        app = _app(bundle, ledger, host, models_root)
    except PromoRayError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(error.exit_code) from error
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn stops gracefully, then raises the signal again; the second one ends nothing
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run()


def _app(bundle: str, ledger: Path, host: str, models_root: str | None) -> FastAPI:
    token = os.environ.get(TOKEN_VARIABLE)
    check_exposure(host, token)
    try:
        ledger.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"ledger's directory must be writable; {ledger}: {error}") from error
    return create_app(bundle, ledger, token, host=host, models_root=models_root)
