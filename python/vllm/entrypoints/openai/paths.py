"""The path of a request, and the path at which a proxy serves the application."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class AtRootPath:
    """Middleware that says where the application is: its routes are at `root_path`, and without it.

    uvicorn's own option would put it before every path, which only fits a proxy that removes it.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["root_path"] = self._root_path
        await self._app(scope, receive, send)


def route_path(scope: Scope) -> str:
    """The path without --root-path, which a proxy may leave in it or remove."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path
