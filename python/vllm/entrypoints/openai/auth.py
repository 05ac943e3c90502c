"""Authentication by API keys."""

from __future__ import annotations

import hashlib
import hmac
from typing import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.paths import route_path
from vllm.entrypoints.openai.routes import page

# Paths without authentication: health checks of load balancers and orchestrators have no key, and
# the chat page is static and asks its user for one.
_OPEN = frozenset({"/health", *page.PATHS})


class RequireApiKey:
    """Middleware that refuses requests without one of the keys, except for the open paths.

    A key is sent as ``Authorization: Bearer KEY``, or as Anthropic's ``x-api-key: KEY``. All
    digests are compared in constant time, so that timing reveals nothing about a key, not even its
    length.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._digests = [_digest(key.encode()) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or self._is_open(scope) or self._has_key(scope):
            await self._app(scope, receive, send)
            return
        error = ApiError(
            401,
            "this server requires an API key: send it as 'Authorization: Bearer KEY'",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
        await error.response(scope)(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        return route_path(scope) in _OPEN

    def _has_key(self, scope: Scope) -> bool:
        given = _digest(key_of(Headers(scope=scope)).encode("latin-1"))  # how bytes became text
        equal = [hmac.compare_digest(given, digest) for digest in self._digests]
        return any(equal) and given != _digest(b"")


def key_of(headers: Headers) -> str:
    """The key of a request; empty without one."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    return headers.get("x-api-key", "").strip()


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
