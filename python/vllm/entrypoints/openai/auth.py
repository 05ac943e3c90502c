"""API keys: who may ask."""

from __future__ import annotations

import hashlib
import hmac
from typing import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from vllm.entrypoints.openai.errors import ApiError
from vllm.entrypoints.openai.routes import page

# What asks for health (a load balancer, an orchestrator) has no key. Nor has a browser that opens
# the page, which asks its reader for one: the page holds nothing but itself.
_OPEN = frozenset({"/health", *page.PATHS})


class RequireApiKey:
    """Middleware that lets requests pass which have one of the keys, or ask for what is open.

    A key comes as ``Authorization: Bearer KEY``, or as Anthropic's ``x-api-key: KEY``. Digests are
    compared, in constant time and all of them, so that an answer's time tells nothing of a key, not
    even its length.
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
            "this server wants an API key: send it as 'Authorization: Bearer KEY'",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
        await error.response(scope)(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        return path in _OPEN or (path.startswith(root) and path[len(root) :] in _OPEN)

    def _has_key(self, scope: Scope) -> bool:
        given = _digest(key_of(Headers(scope=scope)).encode("latin-1"))  # how bytes became text
        equal = [hmac.compare_digest(given, digest) for digest in self._digests]
        return any(equal) and given != _digest(b"")


def key_of(headers: Headers) -> str:
    """The key that a request brings; empty if none."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    return headers.get("x-api-key", "").strip()


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
