"""vLLM's options that a command does not implement: parsed, but hidden from ``--help``.

A value that needs no missing feature is accepted, others are refused; see `vllm.foreign`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from typing import Any, Dict, Iterable, Mapping

from vllm.engine_args import EngineArgs
from vllm.entrypoints.options import option_of, options_of
from vllm.foreign import Foreign, without_foreign

# Prefixes of vLLM's other arguments that are switches; the others take a value.
_SWITCHES = (
    *("enable_", "disable_", "use_", "engine_use", "worker_use", "exclude_", "headless"),
    *("ray_workers_use", "fully_sharded", "calculate_kv", "multi_step_stream", "return_", "log_"),
    *("async_engine", "plot_timeline", "trust_remote"),
)
_PREFIX = "foreign_"


def foreign_names(table: Mapping[str, Foreign]) -> Iterable[str]:
    """The names in `table` that are not fields of `EngineArgs`."""
    own = {field.name for field in dataclasses.fields(EngineArgs)}
    return [name for name in table if name not in own]


def add_foreign_options(parser: argparse.ArgumentParser, table: Mapping[str, Foreign]) -> None:
    """Adds hidden options. Call it last: it does not replace existing options."""
    for name in foreign_names(table):
        option, dest = option_of(name), f"{_PREFIX}{name}"
        hidden: Dict[str, Any] = {"dest": dest, "default": None, "help": argparse.SUPPRESS}
        with contextlib.suppress(argparse.ArgumentError):  # the parser already has the option
            if name.startswith(_SWITCHES) or name == "profile":
                parser.add_argument(option, action="store_true", **hidden)
                no = option.replace("--", "--no-", 1)
                parser.add_argument(no, action="store_false", **hidden)
            else:
                parser.add_argument(*options_of(name), type=_value, **hidden)


def check_foreign(
    args: argparse.Namespace, owner: str, table: Mapping[str, Foreign]
) -> Dict[str, Any]:
    """Converts given options to this library's own fields (see `without_foreign`).

    owner: the command, for messages.
    Raises ValueError for an option that needs a missing feature.
    """
    given = {
        name[len(_PREFIX) :]: value
        for name, value in vars(args).items()
        if name.startswith(_PREFIX) and value is not None
    }
    return without_foreign(owner, table, given)


def _value(text: str) -> Any:
    """Parses JSON, such as `{}` or `4`; other values are text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
