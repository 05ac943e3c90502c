"""HEAD, by which load balancers ask whether a server is healthy."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class AnswerHead:
    """Middleware that answers HEAD as GET; the HTTP server leaves out the body of the response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)
