"""``vllm bench throughput|latency``: the library without a server, with vLLM's options."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Sequence

from vllm.entrypoints.bench import latency, throughput
from vllm.entrypoints.bench.foreign import OFFLINE
from vllm.entrypoints.foreign_options import add_foreign_options, check_foreign
from vllm.entrypoints.options import add_engine_groups, add_model_options, make_llm, model_of
from vllm.foreign import ENGINE

if TYPE_CHECKING:
    from types import ModuleType

_FOREIGN = {**ENGINE, **OFFLINE}


def configure(kinds: Any) -> None:
    """Adds both subcommands to ``vllm bench``."""
    _add(kinds, "throughput", throughput)
    _add(kinds, "latency", latency)


def _add(kinds: Any, name: str, module: ModuleType) -> None:
    kind = kinds.add_parser(name, help=module.HELP, description=module.HELP)
    add_model_options(kind)
    group = kind.add_argument_group("benchmark")
    module.add_options(kind, group)
    group.add_argument("--n", type=int, default=1, help="continuations of each prompt (1)")
    group.add_argument(
        "--disable-detokenize",
        action="store_true",
        help="do not detokenize, which is then not measured; needs no tokenizer",
    )
    group.add_argument(
        "--output-json",
        "--json",
        type=Path,
        metavar="FILE",
        help="also write the metrics to this file",
    )
    add_engine_groups(kind)
    add_foreign_options(kind, _FOREIGN)
    kind.set_defaults(bench=run, module=module, command=f"vllm bench {name}")


def run(args: argparse.Namespace) -> int:
    args.model = model_of(args, args.command)
    fields = check_foreign(args, args.command, _FOREIGN)
    args.module.check(args)
    if args.n < 1:
        raise ValueError(f"--n must be at least 1, got {args.n}")
    if args.output_json and not args.output_json.parent.is_dir():
        raise ValueError(f"--output-json: there is no folder {args.output_json.parent}")
    llm = make_llm(args, skip_tokenizer_init=args.disable_detokenize, **fields)
    figures: Dict[str, Any] = args.module.measure(args, llm)
    print(own_figures(figures, args.module.VLLMS))
    print("\n".join(args.module.in_vllms_words(figures)))
    if args.output_json:
        args.output_json.write_text(json.dumps(figures, indent=1) + "\n")
        print(f"wrote {args.output_json}", file=sys.stderr)
    return 0


def own_figures(figures: Mapping[str, Any], vllms: Sequence[str]) -> str:
    """The metrics that vLLM does not have, a line for each.

    vllms: names of those that it has.
    """
    lines: List[str] = []
    for name, value in figures.items():
        if name not in vllms:
            shown = f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
            lines.append(f"{name.replace('_', ' '):32} {shown:>12}")
    return "\n".join(lines)
