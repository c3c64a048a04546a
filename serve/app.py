"""The decision service on Ray Serve: `ray start --head`, then `serve deploy serve/config.yaml`.

Start Ray in the repository root: replicas import this file and find relative paths from there.

Each replica runs the ASGI app of `promo_ray.decisions` on its own; replicas share one ledger
file, which holds budgets exactly between them, so all of them must run on the ledger's machine.
`user_config: {bundle: URI}` names the bundle; changing it swaps the bundle without a new replica.

Environment of the replicas: `PROMO_RAY_LEDGER` (file), `PROMO_RAY_MODELS_ROOT`,
`PROMO_RAY_SERVE_TOKEN` (needed unless the HTTP host is a loopback address).
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import LoggingConfig

from promo_ray.decisions.api import build_app
from promo_ray.decisions.edge import TOKEN_VARIABLE, check_exposure
from promo_ray.decisions.service import DecisionService
from promo_ray.errors import ConfigError

LEDGER_VARIABLE = "PROMO_RAY_LEDGER"
MODELS_VARIABLE = "PROMO_RAY_MODELS_ROOT"
_LEDGER = "runs/serve/ledger.db"


@serve.deployment(
    name="decisions",
    num_replicas=2,
    max_ongoing_requests=64,
    max_queued_requests=256,
    health_check_period_s=5,
    health_check_timeout_s=10,
    graceful_shutdown_timeout_s=20,
    ray_actor_options={"num_cpus": 0.5},
    logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
)
@serve.ingress()
class Decisions:
    """One replica."""

    def __init__(self, ledger: str | None = None, models_root: str | None = None) -> None:
        self._token = os.environ.get(TOKEN_VARIABLE)
        check_exposure(_http_host(), self._token)
        path = os.path.abspath(ledger or os.environ.get(LEDGER_VARIABLE, _LEDGER))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        root = models_root or os.environ.get(MODELS_VARIABLE)
        self._service = DecisionService(path, models_root=root)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """App of this replica; Serve asks for it after the constructor."""
        return build_app(self._service, self._token)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Serve the configured bundle.

        Raises:
            ConfigError: `user_config` has other keys than `bundle`.
            ArtifactError: the bundle is missing or damaged; what is active stays.
        """
        if set(user_config) != {"bundle"}:
            raise ConfigError(f"user_config must be {{bundle: URI}}; got {sorted(user_config)}")
        await asyncio.to_thread(self._service.configure, str(user_config["bundle"]))

    async def check_health(self) -> None:
        """Raise if the replica cannot decide; Serve then replaces it."""
        _ = self._service.decider


def _http_host() -> str:
    """Address on which Serve listens."""
    client = _get_global_client()
    return str(client.http_config.host)


app = Decisions.bind()
