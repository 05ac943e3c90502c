"""``python -m ci serve``: serves a bucket over HTTP, for pip, uv and browsers."""

from __future__ import annotations

import argparse
import os

from ci import serve
from ci.publish import cli

HELP = "serve a bucket over HTTP until interrupted"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default: %(default)s)"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8000,
        help="port to listen at; 0: any free one (default: %(default)s)",
    )
    parser.add_argument(
        "--upstream",
        default=os.environ.get("UPSTREAM_INDEX"),
        metavar="URL",
        help="the simple index that other projects are redirected to (default: $UPSTREAM_INDEX)",
    )


def run(args: argparse.Namespace) -> int:
    store = cli.bucket(args)
    listener = serve.listen(args.host, args.port)
    print(serve.base_url(listener), flush=True)
    serve.serve(store, listener, args.upstream)
    return 0
