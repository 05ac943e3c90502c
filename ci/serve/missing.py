"""What is said where there is nothing: for a commit, what became of it."""

from __future__ import annotations

import re
from typing import Mapping, Optional

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from ci.index import records
from ci.index.fields import BadRecord
from ci.index.pages import HOME
from ci.index.records import CommitStatus, State
from ci.index.templates import render
from ci.publish import access
from ci.serve.preconditions import field
from ci.store import Store

_COMMIT = re.compile(r"([0-9a-f]{40})(?:/.*)?", re.DOTALL)
_NO_STORE = {"Cache-Control": "no-store"}


def plain(status: int, text: str, headers: Optional[Mapping[str, str]] = None) -> Response:
    return PlainTextResponse(text + "\n", status, {**_NO_STORE, **(headers or {})})


def page(store: Store, request: Request, path: str) -> Response:
    """404, and why: what the status of the commit says, if the path is one's."""
    found = _COMMIT.fullmatch(path)
    why = _of_commit(store, found[1]) if found else "There is nothing here."
    if "text/html" not in (field(request.headers, "accept") or ""):
        return plain(404, why, {"Vary": "Accept"})
    body = render("missing.html", why=why, has_home=_has_home(store))
    return Response(body, 404, {**_NO_STORE, "Vary": "Accept"}, "text/html")


def _has_home(store: Store) -> bool:
    """Whether there is anything to lead to: a new bucket is empty."""
    return access.look(store, HOME) is not None


def _of_commit(store: Store, commit: str) -> str:
    try:
        status = access.read(store, records.status(commit))
    except BadRecord as error:
        return error.what
    if status is None:
        return (
            f"No build of commit {commit} was ever begun here. Either it is no commit of the main "
            "branch, or its build was not started yet."
        )
    return explain(status)


def explain(status: CommitStatus) -> str:
    """What became of a commit, in a sentence or two."""
    when = status.updated
    if status.state is State.PENDING:
        return (
            f"Commit {status.unit} is being built or uploaded since {when}. Its wheels appear "
            "together when all are there; if this is long ago, the publication was interrupted."
        )
    if status.state is State.FAILED:
        return f"Commit {status.unit} has no wheels: {status.reason} ({when})"
    if status.state is State.PRUNED:
        return f"The wheels of commit {status.unit} were removed at {when}: {status.reason}"
    return f"Commit {status.unit} is complete, but has no file of this name."
