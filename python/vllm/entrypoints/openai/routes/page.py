"""/: the chat page, three static files."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

_FOLDER = Path(__file__).parent.parent / "page"
_FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}

PATHS = tuple(_FILES)

# The page may only load from and connect to this server, no other page may embed it in a frame, and
# trusted types prevent scripts from inserting text as HTML.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def show_page() -> FileResponse:
    """The page."""
    return _file("/")


@router.get("/page.css")
async def show_style() -> FileResponse:
    """The page's style sheet."""
    return _file("/page.css")


@router.get("/page.js")
async def show_script() -> FileResponse:
    """The page's script."""
    return _file("/page.js")


def _file(path: str) -> FileResponse:
    return FileResponse(_FOLDER / _FILES[path], headers=_HEADERS)
