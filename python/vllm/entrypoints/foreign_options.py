"""vLLM's options that a command has no use for: read, and left out of ``--help``.

One that asks for nothing is accepted, another refused with the reason; see `vllm.foreign`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from typing import Any, Dict, Iterable, Mapping

from vllm.engine_args import EngineArgs
from vllm.entrypoints.options import option_of
from vllm.foreign import Foreign, without_foreign

# Of `EngineArgs`' other arguments, those that are switches by how they begin; the others take a
# value.
_SWITCHES = (
    *("enable_", "disable_", "use_", "engine_use", "worker_use", "exclude_", "headless"),
    *("ray_workers_use", "fully_sharded", "calculate_kv", "multi_step_stream", "return_", "log_"),
    *("async_engine", "plot_timeline", "trust_remote"),
)
_PREFIX = "foreign_"


def foreign_names(table: Mapping[str, Foreign]) -> Iterable[str]:
    """All of `table` that `EngineArgs` has not."""
    own = {field.name for field in dataclasses.fields(EngineArgs)}
    return [name for name in table if name not in own]


def add_foreign_options(parser: argparse.ArgumentParser, table: Mapping[str, Foreign]) -> None:
    """Call it last: it does not replace options that the parser already has."""
    for name in foreign_names(table):
        option, dest = option_of(name), f"{_PREFIX}{name}"
        hidden: Dict[str, Any] = {"dest": dest, "default": None, "help": argparse.SUPPRESS}
        with contextlib.suppress(argparse.ArgumentError):  # the parser has it already
            if name.startswith(_SWITCHES) or name == "profile":
                parser.add_argument(option, action="store_true", **hidden)
                no = option.replace("--", "--no-", 1)
                parser.add_argument(no, action="store_false", **hidden)
            else:
                parser.add_argument(option, type=_value, **hidden)


def check_foreign(
    args: argparse.Namespace, owner: str, table: Mapping[str, Foreign]
) -> Dict[str, Any]:
    """What was given under vLLM's other names, by its own.

    owner: the command, for messages.
    Raises ValueError for what asks for something that is not there.
    """
    given = {
        name[len(_PREFIX) :]: value
        for name, value in vars(args).items()
        if name.startswith(_PREFIX) and value is not None
    }
    return without_foreign(owner, table, given)


def _value(text: str) -> Any:
    """JSON, as `{}` or `4`, or text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
