"""404 pages, which explain the state of the commit in the path."""

from __future__ import annotations

import re
from typing import Mapping, NamedTuple, Optional, Sequence

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
# Git's short form of a hash. "nightly" and other folders of ours have letters after f.
_SHORT = re.compile(r"([0-9a-f]{7,39})(?:/.*)?", re.DOTALL)
_VARIANT = re.compile(r"\+(cu\d+)-|/(cu\d+)(?:/|$)")
_NO_STORE = {"Cache-Control": "no-store"}


class About(NamedTuple):
    """What a page says of a path. title: what the commits are that it names."""

    said: str
    commits: Sequence[Near] = ()
    title: str = "Nearest with wheels"


def plain(status: int, text: str, headers: Optional[Mapping[str, str]] = None) -> Response:
    return PlainTextResponse(text + "\n", status, {**_NO_STORE, **(headers or {})})


def page(store: Store, request: Request, path: str) -> Response:
    """404, with the state of the commit if the path names one."""
    said, commits, title = _about(store, path)
    said = " ".join(filter(None, (said, _on_request(store, path))))
    if "text/html" not in (field(request.headers, "accept") or ""):
        lines = [f"{title}: {c.commit} (number {c.number}, {c.time}) {c.subject}" for c in commits]
        return plain(404, "\n".join([said, *lines]), {"Vary": "Accept"})
    body = render("missing.html", why=said, title=title, commits=commits, has_home=_has_home(store))
    return Response(body, 404, {**_NO_STORE, "Vary": "Accept"}, "text/html")


def _has_home(store: Store) -> bool:
    """Whether there is a home page to link to: a new bucket is empty."""
    return access.look(store, HOME) is not None


def _about(store: Store, path: str) -> About:
    found, short = _COMMIT.fullmatch(path), _SHORT.fullmatch(path)
    try:
        if found:
            return _of_commit(store, found[1], path)
        if short:
            return _of_short(store, short[1])
    except BadRecord as error:
        return About(error.what)
    return About("There is nothing here.")


def _of_commit(store: Store, commit: str, path: str) -> About:
    found = why.of(store, commit)
    if not found.wheels:
        subject = f"It is: {found.subject}" if found.subject else ""
        return About(" ".join(filter(None, (found.said, subject))), found.near)
    has = ", ".join(key.rpartition("/")[2] for key in found.wheels)
    missing = path.rpartition("/")[2] or "this"
    return About(f"{found.said} But it has no file of this name, {missing}. It has: {has}")


def _of_short(store: Store, digits: str) -> About:
    """A bucket cannot redirect: nobody is to get used to addresses that work here only."""
    return About(
        f"The folder of a commit is named by all 40 digits of its hash, not by {digits}.",
        why.begun_by(store, digits),
        "A commit that begins so",
    )


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
