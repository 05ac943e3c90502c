"""404 pages, which explain the state of the commit in the path."""

from __future__ import annotations

import re
from typing import Mapping, Optional, Sequence

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ci.index import records
from ci.index.fields import BadRecord
from ci.index.pages import HOME
from ci.index.templates import render
from ci.publish import access, why
from ci.publish.why import Near
from ci.serve.preconditions import field
from ci.store import Store

_COMMIT = re.compile(r"([0-9a-f]{40})(?:/.*)?", re.DOTALL)
_VARIANT = re.compile(r"\+(cu\d+)-|/(cu\d+)(?:/|$)")
_NO_STORE = {"Cache-Control": "no-store"}


def plain(status: int, text: str, headers: Optional[Mapping[str, str]] = None) -> Response:
    return PlainTextResponse(text + "\n", status, {**_NO_STORE, **(headers or {})})


def page(store: Store, request: Request, path: str) -> Response:
    """404, with the state of the commit if the path names one."""
    found = _COMMIT.fullmatch(path)
    said, near = _of_commit(store, found[1], path) if found else ("There is nothing here.", ())
    said = " ".join(filter(None, (said, _on_request(store, path))))
    if "text/html" not in (field(request.headers, "accept") or ""):
        lines = [f"Near it: {n.commit} (number {n.number}, {n.time}) {n.subject}" for n in near]
        return plain(404, "\n".join([said, *lines]), {"Vary": "Accept"})
    body = render("missing.html", why=said, near=near, has_home=_has_home(store))
    return Response(body, 404, {**_NO_STORE, "Vary": "Accept"}, "text/html")


def _has_home(store: Store) -> bool:
    """Whether there is a home page to link to: a new bucket is empty."""
    return access.look(store, HOME) is not None


def _of_commit(store: Store, commit: str, path: str) -> tuple[str, Sequence[Near]]:
    try:
        found = why.of(store, commit)
    except BadRecord as error:
        return error.what, ()
    if not found.wheels:
        return " ".join(filter(None, (found.said, _about(found.subject)))), found.near
    has = ", ".join(key.rpartition("/")[2] for key in found.wheels)
    missing = path.rpartition("/")[2] or "this"
    return f"{found.said} But it has no file of this name, {missing}. It has: {has}", ()


def _on_request(store: Store, path: str) -> str:
    """Which commits have the variant in the path, if it is one on request."""
    found = _VARIANT.search(path)
    if found is None:
        return ""
    variant = found[1] or found[2]
    try:
        ledger = access.read(store, records.NIGHTLIES)
    except BadRecord as error:
        return error.what
    if variant not in ledger.variants or not ledger.variants[variant].on_request:
        return ""
    units = (unit for unit in ledger.units if unit.of_variant(variant, ledger.default))
    newest = next(
        (f"the newest with it is {unit.commit}" for unit in units), "no listed commit has it"
    )
    return f"{variant} is only built on request: {newest}."


def _about(subject: str) -> str:
    return f"It is: {subject}" if subject else ""
