"""``vllm complete``: continues texts with a running server."""

from __future__ import annotations

import argparse
import sys
from typing import List, Optional

from vllm.entrypoints.options import add_sampling_options, check_sampling, sampling_fields
from vllm.entrypoints.remote import DEFAULT_URL, Server, add_server_options

HELP = "continue texts with a running server"


def configure(parser: argparse.ArgumentParser) -> None:
    add_server_options(parser, url=DEFAULT_URL)
    parser.add_argument("-q", "--quick", metavar="PROMPT", help="continue this prompt, then exit")
    add_sampling_options(parser)


def run(args: argparse.Namespace) -> int:
    check_sampling(args)
    server = Server.of(args)
    fields = {name: value for name, value in sampling_fields(args).items() if value is not None}
    prompts: Optional[List[str]] = [args.quick] if args.quick else None
    interactive = sys.stdin.isatty() and prompts is None
    while prompts is None or prompts:
        try:
            prompt = prompts.pop() if prompts else input("> " if interactive else "")
        except EOFError:
            break
        if not prompt:
            continue
        try:
            for text in server.complete(prompt, fields):
                print(text, end="", flush=True)
        except KeyboardInterrupt:
            if not interactive:
                raise
        except ValueError as error:
            if not interactive:
                raise
            print(error, file=sys.stderr)
        print()
    return 0
