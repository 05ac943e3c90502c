"""``python -m ci sign``: renews the signatures of the index, or rotates its keys."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from pathlib import Path

from ci import keys
from ci.errors import CiError
from ci.publish import cli, signed
from ci.publish.signed import Signer

HELP = "sign the index again before its timestamp expires, or rotate its keys with --root-key"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    cli.add_json(parser)
    cli.add_index_key(parser)
    parser.add_argument(
        "--root-key",
        type=Path,
        action="append",
        default=[],
        metavar="PEM",
        help="write a root that trusts this root key and the index key; may be repeated",
    )
    parser.add_argument(
        "--old-root-key",
        type=Path,
        action="append",
        default=[],
        metavar="PEM",
        help="a root key of the current root, when --root-key replaces it; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    signer = cli.index_signer(args)
    if signer is None:
        raise CiError(
            "no key was given",
            do="pass --index-key; create one: openssl genpkey -algorithm ed25519 -out index.pem",
        )
    store, now = cli.bucket(args), datetime.now(timezone.utc)
    written = []
    if args.root_key:
        roots, before = ([_read(p) for p in paths] for paths in (args.root_key, args.old_root_key))
        written.append(signed.write_root(store, roots, signer, now, before))
    written += signed.sign_anew(store, signer, now)
    cli.show(args, written, "\n".join(f"written: {key}" for key in written))
    return 0


def _read(path: Path) -> Signer:
    key = keys.load_key(path)
    assert key is not None  # a path was given
    return Signer(key.private)
