"""vLLM's options of ``serve`` that this library has no use for: read, and left out of ``--help``.

One that asks for nothing is accepted, another refused with the reason; see `vllm.foreign`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from typing import Any, Dict, Iterable

from vllm.engine_args import EngineArgs
from vllm.entrypoints.options import option_of
from vllm.foreign import ENGINE, SERVE, without_foreign

# Of `EngineArgs`' other arguments, those that are switches by how they begin; the others take a
# value.
_SWITCHES = (
    *("enable_", "disable_", "use_", "engine_use", "worker_use", "exclude_", "headless"),
    *("ray_workers_use", "fully_sharded", "calculate_kv", "multi_step_stream", "return_", "log_"),
)
_PREFIX = "foreign_"


def foreign_names() -> Iterable[str]:
    """All that vLLM's ``serve`` has, and neither `EngineArgs` nor the server."""
    own = {field.name for field in dataclasses.fields(EngineArgs)}
    return [name for name in {**ENGINE, **SERVE} if name not in own]


def add_foreign_options(parser: argparse.ArgumentParser) -> None:
    """Call it last: an option that the parser has already stays what it is."""
    for name in foreign_names():
        option, dest = option_of(name), f"{_PREFIX}{name}"
        hidden: Dict[str, Any] = {"dest": dest, "default": None, "help": argparse.SUPPRESS}
        with contextlib.suppress(argparse.ArgumentError):  # the parser has it already
            if name.startswith(_SWITCHES):
                parser.add_argument(option, action="store_true", **hidden)
                no = option.replace("--", "--no-", 1)
                parser.add_argument(no, action="store_false", **hidden)
            else:
                parser.add_argument(option, type=_value, **hidden)


def check_foreign(args: argparse.Namespace) -> Dict[str, Any]:
    """Fields of `EngineArgs` that were given under vLLM's other names.

    Raises ValueError for what asks for something that is not there.
    """
    given = {
        name[len(_PREFIX) :]: value
        for name, value in vars(args).items()
        if name.startswith(_PREFIX) and value is not None
    }
    return without_foreign("vllm serve", {**ENGINE, **SERVE}, given)


def _value(text: str) -> Any:
    """JSON, as `{}` or `4`, or text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
