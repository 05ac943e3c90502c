"""The ``vllm`` command: its subcommands, and how errors are printed."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from typing import List, Optional, Sequence

from vllm.entrypoints import bench, chat, collect_env, complete, generate, serve
from vllm.errors import RankError
from vllm.version import __version__

# Each module has HELP, configure(parser) and run(args) -> exit status.
COMMANDS = {
    "serve": serve,
    "generate": generate,
    "chat": chat,
    "complete": complete,
    "bench": bench,
    "collect-env": collect_env,
}


def with_dashes(words: Sequence[str]) -> List[str]:
    """The words of a command line, with `-` for each `_` in the names of options, as vLLM takes
    them: --max_model_len is --max-model-len."""
    found: List[str] = []
    for place, word in enumerate(words):
        if word == "--":
            return found + list(words[place:])
        name, equals, value = word.partition("=")
        found.append(f"{name.replace('_', '-')}{equals}{value}" if name.startswith("--") else word)
    return found


def main(argv: Optional[List[str]] = None) -> int:
    """Runs the command line; returns the exit status, 2 for wrong input."""
    parser = argparse.ArgumentParser(prog="vllm", description="LLM inference.")
    parser.add_argument("--version", action="version", version=f"vllm {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.configure(command)
        command.set_defaults(run=module.run, prog=command.prog)
    args = parser.parse_args(with_dashes(sys.argv[1:] if argv is None else argv))
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    try:
        status: int = args.run(args)
    except ValueError as error:  # also ModelError: the input is wrong
        print(f"{args.prog}: error: {error}", file=sys.stderr)
        return 2
    except (ImportError, RankError) as error:
        print(f"{args.prog}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of stdout has closed the pipe, as `head` does
        # Otherwise Python would report an error when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return status
