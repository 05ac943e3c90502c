"""Shared by commands that use a bucket: --bucket, --json, and the output of results."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any, Optional

from rich.console import Console

from ci import keys
from ci.errors import CiError
from ci.publish.signed import TIMESTAMP, Signer, check_key, sign_anew
from ci.publish.view import View
from ci.store import Store, open_store

BUCKET = "wheelhouse/bucket"


def add_bucket(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bucket",
        default=BUCKET,
        help="a folder, or s3://name; AWS_ENDPOINT_URL is honoured (default: %(default)s)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_also(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="VARIANT",
        help="include this variant on request, such as cu128; may be repeated",
    )


def add_index_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--index-key",
        type=Path,
        metavar="PEM",
        help="PEM file of the Ed25519 key for the index (default: the PEM in VLLM_INDEX_KEY)",
    )


def index_signer(args: argparse.Namespace) -> Optional[Signer]:
    """The key from --index-key or VLLM_INDEX_KEY, if either is set."""
    key = keys.load_key(args.index_key, variable=keys.OF_INDEX)
    return Signer(key.private) if key else None


@contextmanager
def signing(args: argparse.Namespace, store: Store) -> Iterator[None]:
    """Wraps a command that changes ledgers: signs them afterwards, if the index is signed.

    Also those that it changed before it failed: to a reader they would look like an attack. If that
    fails too, the first error is raised, and says so.
    """
    signer = index_signer(args)
    if signer is None:
        view = View(store)
        view.look([TIMESTAMP])
        check_key(view, None)
    try:
        yield
    except CiError as error:
        if signer is not None:
            try:
                sign_anew(store, signer, datetime.now(timezone.utc))
            except CiError as second:
                sign = f"run `python -m ci sign`: the index is not signed either ({second.what})"
                error.do = f"{error.do}; then {sign}" if error.do else sign
        raise
    if signer is not None:
        sign_anew(store, signer, datetime.now(timezone.utc))


def bucket(args: argparse.Namespace) -> Store:
    return open_store(args.bucket)


def show(args: argparse.Namespace, result: Any, text: str) -> None:
    """Prints a result: as JSON with --json, else the text."""
    if args.json:
        print(json.dumps(_plain(result), indent=1, sort_keys=True))
    else:
        print(text)


def progress(args: argparse.Namespace, step: str) -> None:
    """Reports progress on stderr, so that stdout has only the result."""
    if not args.json:
        Console(stderr=True, soft_wrap=True).print(step, markup=False, highlight=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
