"""What every request passes first: id, token, size and time limits, measuring; plain ASGI."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import time
import uuid
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from promo_ray.decisions.metrics import ServiceMetrics
from promo_ray.decisions.problems import problem
from promo_ray.errors import ConfigError

TOKEN_VARIABLE = "PROMO_RAY_SERVE_TOKEN"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")
_OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


def check_exposure(host: str, token: str | None) -> None:
    """Refuse to serve others than this machine without a token.

    Raises:
        ConfigError: the host is no loopback address and there is no token.
    """
    if token:
        return
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback:
        raise ConfigError(f"host {host!r} is no loopback address; {TOKEN_VARIABLE} must be set")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one request: bytes of its body, seconds until the body must be there."""

    max_body_bytes: int = 1 << 20
    body_timeout_s: float = 10.0


class _RefusedError(Exception):
    """A body that is not read to its end."""

    def __init__(self, status: int, kind: str, detail: str) -> None:
        self.status, self.kind, self.detail = status, kind, detail
        super().__init__(detail)


class Edge:
    """ASGI middleware around the app.

    Args:
        app: what to protect.
        metrics: where requests are counted.
        token: bearer token of all paths but health and the API document; None = no token.
        limits: bounds of a request.
    """

    def __init__(
        self, app: ASGIApp, *, metrics: ServiceMetrics, token: str | None, limits: Limits
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._authorization = f"Bearer {token}".encode() if token else None
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope["request_id"] = request_id
        status = 500

        async def send_out(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            self._check_token(scope["path"], headers)
            if scope["method"] in _WITH_BODY:
                receive = await self._with_body(receive, headers)
        except _RefusedError as refused:
            answer = problem(
                refused.status,
                refused.kind,
                refused.detail,
                request_id,
                headers={"WWW-Authenticate": "Bearer"} if refused.status == 401 else None,
            )
            await answer(scope, receive, send_out)
        else:
            await self._app(scope, receive, send_out)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.observe(scope["method"], route, status, time.perf_counter() - started)

    def _check_token(self, path: str, headers: dict[bytes, bytes]) -> None:
        if self._authorization is None or path in _OPEN_PATHS:
            return
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._authorization):
            raise _RefusedError(401, "unauthorized", "a valid bearer token must be sent")

    async def _with_body(self, receive: Receive, headers: dict[bytes, bytes]) -> Receive:
        """The same messages with the body read and bounded."""
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._limits.max_body_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                first = await self._read(receive)
        except TimeoutError:
            raise _RefusedError(
                408, "slow-request", f"body must arrive in {self._limits.body_timeout_s:g} s"
            ) from None
        pending: list[Message] = [first]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        return replay

    async def _read(self, receive: Receive) -> Message:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._limits.max_body_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return {"type": "http.request", "body": b"".join(chunks), "more_body": False}

    def _too_large(self) -> _RefusedError:
        limit = self._limits.max_body_bytes
        return _RefusedError(413, "body-too-large", f"body must have at most {limit} bytes")
