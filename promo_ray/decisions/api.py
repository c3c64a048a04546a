"""The decision service as an ASGI app; runs under uvicorn in process and on Ray Serve alike."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import APIRouter, FastAPI, Header, Response
from fastapi import Path as PathPart
from starlette.exceptions import HTTPException

from promo_ray import __version__
from promo_ray.decisions import schemas
from promo_ray.decisions.accounts import LedgerConflictError, Receipt
from promo_ray.decisions.decision import DecisionRequest
from promo_ray.decisions.edge import Edge, Limits, check_exposure
from promo_ray.decisions.feedback import FeedbackStatus
from promo_ray.decisions.metrics import ServiceMetrics
from promo_ray.decisions.problems import add_handlers
from promo_ray.decisions.service import DecisionService

T = TypeVar("T")

JSON = "application/json"
_PROBLEM = {"model": schemas.ProblemOut, "content": {"application/problem+json": {}}}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {**_PROBLEM, "description": text}
    for status, text in {
        400: "Malformed JSON", 401: "No valid token", 404: "Not found", 408: "Slow body",
        409: "Conflict", 413: "Body too large", 422: "Invalid request", 503: "Try again",
    }.items()
}  # fmt: skip

IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)
]
"""Names one request: repeated within a day it gets the same answer."""
CampaignName = Annotated[str, PathPart(max_length=64)]


def create_app(
    bundle_uri: str,
    ledger_path: str | Path,
    token: str | None = None,
    *,
    host: str = "127.0.0.1",
    models_root: str | None = None,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """App that serves one bundle; shutting the app down closes the ledger.

    Args:
        bundle_uri: the bundle's directory or the store that holds it.
        ledger_path: the ledger's file, made if absent.
        token: bearer token; needed unless the host is a loopback address.
        host: address that the server will listen on.
        models_root: see `DecisionService`.
        limits: bounds of a request.
        clock: seconds since 1970.

    Raises:
        ConfigError: a host that others reach, without a token.
        ArtifactError: the bundle is missing or damaged.
        LedgerUnavailableError: the ledger cannot be opened.
    """
    check_exposure(host, token)
    service = DecisionService(ledger_path, models_root=models_root, clock=clock)
    try:
        service.configure(bundle_uri)
    except BaseException:
        service.close()
        raise
    return build_app(service, token, limits)


def build_app(
    service: DecisionService, token: str | None = None, limits: Limits | None = None
) -> FastAPI:
    """App around a service; shutting the app down closes the service."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    metrics = ServiceMetrics(service)
    app = FastAPI(
        title="promo_ray decisions", version=__version__, lifespan=lifespan, docs_url=None,
        redoc_url=None,
    )  # fmt: skip
    app.include_router(_decision_routes(service, metrics))
    app.include_router(_feedback_routes(service, metrics))
    app.include_router(_admin_routes(service))
    app.include_router(_health_routes(service, metrics))
    add_handlers(app)
    app.add_middleware(Edge, metrics=metrics, token=token, limits=limits or Limits())
    return app


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type=JSON)


def _decision_routes(service: DecisionService, metrics: ServiceMetrics) -> APIRouter:
    router = APIRouter(prefix="/v1", responses=_ERRORS)

    async def answer(requests: Sequence[DecisionRequest]) -> list[Receipt]:
        decider = service.decider
        receipts = await asyncio.wrap_future(decider.submit(requests))
        metrics.count_decisions(decider.bundle.policy.campaign, receipts)
        return receipts

    @router.post("/decisions", response_model=schemas.DecisionOut)
    async def decide(body: schemas.DecisionIn, idempotency_key: IdempotencyKey = None) -> Response:
        """Decide what one user gets, and hold the budget for it."""
        key = f"one/{idempotency_key}" if idempotency_key else ""
        receipts = await answer([body.to_request(key)])
        return Response(receipts[0].body, media_type=JSON)

    @router.post("/decisions:batch", response_model=schemas.DecisionBatchOut)
    async def decide_batch(
        body: schemas.DecisionBatchIn, idempotency_key: IdempotencyKey = None
    ) -> Response:
        """Decide for many users at once, all or none."""
        keys = [
            f"many/{idempotency_key}/{i}" if idempotency_key else ""
            for i in range(len(body.requests))
        ]
        receipts = await answer(
            [question.to_request(key) for question, key in zip(body.requests, keys, strict=True)]
        )
        bodies = b",".join(receipt.body for receipt in receipts)
        return Response(b'{"decisions":[' + bodies + b"]}", media_type=JSON)

    @router.get("/decisions/{decision_id}", response_model=schemas.DecisionOut)
    async def read_decision(decision_id: str) -> Response:
        """Read a decision back, with the state of its reservation and its feedback."""
        record = service.ledger.find(decision_id)
        if record is None:
            raise HTTPException(404, "decision must be on record; it is not")
        values = orjson.loads(record.body)
        if values["reservation"]:
            values["reservation"]["state"] = record.state.name.lower()
        return _json(values | {"feedback": dict(record.feedback)})

    return router


def _feedback_routes(service: DecisionService, metrics: ServiceMetrics) -> APIRouter:
    router = APIRouter(prefix="/v1", responses=_ERRORS)

    @router.post("/feedback", response_model=schemas.FeedbackOut)
    async def give_feedback(body: schemas.FeedbackIn) -> Response:
        """Record what happened to a decision; the same event counts once."""
        future = service.ledger.submit_feedback([body.to_event()])
        statuses = await asyncio.wrap_future(future)
        metrics.count_feedback(statuses)
        if statuses[0] is FeedbackStatus.CONFLICT:
            raise LedgerConflictError("event_id must name one event; it came with other contents")
        return _json({"status": statuses[0]})

    @router.post("/feedback:batch", response_model=schemas.FeedbackBatchOut)
    async def give_feedback_batch(body: schemas.FeedbackBatchIn) -> Response:
        """Record many events; conflicts are told one by one."""
        future = service.ledger.submit_feedback([event.to_event() for event in body.events])
        statuses = await asyncio.wrap_future(future)
        metrics.count_feedback(statuses)
        return _json({"statuses": statuses})

    return router


def _admin_routes(service: DecisionService) -> APIRouter:
    router = APIRouter(prefix="/v1", responses=_ERRORS)

    @router.delete("/users/{user_id:path}", response_model=schemas.ErasureOut)
    async def erase_user(user_id: schemas.UserId) -> Response:
        """Forget a user: decisions lose their content and key, accounts stay."""
        key = int(service.decider.user_keys([user_id]).view("int64")[0])
        return _json({"n_decisions": await asyncio.to_thread(service.ledger.erase, key)})

    @router.post("/campaigns/{campaign}:pause", response_model=schemas.CampaignOut)
    async def pause(campaign: CampaignName) -> Response:
        """Stop all offers of a campaign; holds on every process once this is answered."""
        await asyncio.to_thread(service.ledger.pause, campaign)
        return _json({"campaign": campaign, "is_paused": True})

    @router.post("/campaigns/{campaign}:resume", response_model=schemas.CampaignOut)
    async def resume(campaign: CampaignName) -> Response:
        """Let a paused campaign make offers again."""
        await asyncio.to_thread(service.ledger.resume, campaign)
        return _json({"campaign": campaign, "is_paused": False})

    @router.get("/models", response_model=schemas.ModelsOut)
    async def list_models() -> Response:
        """Bundles that can be activated."""
        models = await asyncio.to_thread(service.models)
        return _json({"models": [model._asdict() for model in models]})

    @router.post("/models/{version}:activate", response_model=schemas.ModelOut)
    async def activate(version: str) -> Response:
        """Swap to another bundle without a failed request."""
        model = await asyncio.to_thread(service.activate, version)
        return _json(model._asdict())

    return router


def _health_routes(service: DecisionService, metrics: ServiceMetrics) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz", response_model=schemas.HealthOut)
    async def healthz() -> Response:
        """The process runs."""
        return _json({"status": "ok"})

    @router.get("/readyz", response_model=schemas.HealthOut, responses={503: _ERRORS[503]})
    async def readyz() -> Response:
        """A bundle is active and the ledger can be read."""
        campaign = service.decider.bundle.policy.campaign
        await asyncio.to_thread(service.ledger.budgets, campaign)
        return _json({"status": "ready"})

    @router.get("/metrics", response_class=Response)
    async def read_metrics() -> Response:
        """Figures for Prometheus."""
        return Response(
            await asyncio.to_thread(metrics.text), media_type="text/plain; version=0.0.4"
        )

    return router
