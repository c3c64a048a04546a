"""Errors of the service as RFC 9457 `application/problem+json`, with stable types."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from promo_ray.decisions.accounts import LedgerConflictError, LedgerMissingError
from promo_ray.decisions.group_commit import LedgerUnavailableError
from promo_ray.decisions.service import NotReadyError, UnknownModelError
from promo_ray.errors import ArtifactError, DataError, PromoRayError

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 1
_TYPE = "urn:promo-ray:problem:"
_STATUS: Mapping[type[PromoRayError], tuple[int, str]] = {
    LedgerConflictError: (409, "conflict"),
    LedgerMissingError: (404, "not-found"),
    LedgerUnavailableError: (503, "ledger-unavailable"),
    NotReadyError: (503, "not-ready"),
    UnknownModelError: (404, "not-found"),
    ArtifactError: (409, "bundle-refused"),
    DataError: (422, "invalid-request"),
}


def problem(
    status: int,
    kind: str,
    detail: str,
    request_id: str,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer that tells an error.

    Args:
        status: HTTP status.
        kind: stable word for programs; becomes the type URN.
        detail: one sentence for people.
        request_id: what `instance` names.
        errors: `pointer` and `detail` of each bad field.
        headers: further headers.
    """
    body: dict[str, Any] = {
        "type": _TYPE + kind,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": f"urn:promo-ray:request:{request_id}",
    }
    if errors:
        body["errors"] = list(errors)
    sent = dict(headers or {})
    if status in (429, 503):
        sent["Retry-After"] = str(RETRY_AFTER_S)
    return Response(orjson.dumps(body), status, sent, "application/problem+json")


def request_id_of(request: Request) -> str:
    """Id that the edge gave the request."""
    return str(request.scope.get("request_id", ""))


def add_handlers(app: FastAPI) -> None:
    """Turn every error of the app into a problem."""
    for cls in _STATUS:
        app.add_exception_handler(cls, _on_known)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_known(request: Request, error: Exception) -> Response:
    status, kind = next(v for cls, v in _STATUS.items() if isinstance(error, cls))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.warning("request %s: %s", request_id_of(request), error)
    return problem(status, kind, str(error), request_id_of(request))


async def _on_invalid(request: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else ()
    if any(fault["type"] == "json_invalid" for fault in faults):
        return problem(400, "malformed-json", "body must be JSON", request_id_of(request))
    fields = [{"pointer": _pointer(f["loc"]), "detail": str(f["msg"])} for f in faults]
    detail = "; ".join(f"{f['pointer']}: {f['detail']}" for f in fields[:3])
    return problem(422, "invalid-request", detail, request_id_of(request), errors=fields)


def _pointer(loc: Sequence[str | int]) -> str:
    """JSON pointer as a URI fragment (RFC 6901); other places by their name."""
    place, *path = [str(part) for part in loc] or [""]
    steps = [part.replace("~", "~0").replace("/", "~1") for part in path]
    head = "#" if place == "body" else place
    return "/".join([head, *steps])


async def _on_http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = str(error.detail) if isinstance(error, HTTPException) else ""
    headers = error.headers if isinstance(error, HTTPException) else None
    kind = HTTPStatus(status).phrase.lower().replace(" ", "-")
    return problem(status, kind, detail, request_id_of(request), headers=headers)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    logger.error("request %s failed", request_id_of(request), exc_info=error)
    return problem(500, "internal", "the request failed; see the log", request_id_of(request))
