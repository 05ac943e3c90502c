"""``vllm chat``: a conversation in the terminal."""

from __future__ import annotations

import argparse
import sys
from typing import Dict, List

from vllm.entrypoints.options import (
    add_engine_options,
    add_sampling_options,
    check_sampling,
    make_llm,
    sampling_fields,
)
from vllm.sampling_params import RequestOutputKind

HELP = "talk to a model, with its own chat template"


def configure(parser: argparse.ArgumentParser) -> None:
    add_engine_options(parser)
    parser.add_argument("--system", help="a system message to begin with")
    add_sampling_options(parser)


def run(args: argparse.Namespace) -> int:
    check_sampling(args)
    llm = make_llm(args)
    params = llm.engine.generation_defaults.params(
        output_kind=RequestOutputKind.DELTA, **sampling_fields(args)
    )
    beginning = [{"role": "system", "content": args.system}] if args.system else []
    messages: List[Dict[str, str]] = list(beginning)
    interactive = sys.stdin.isatty()
    if interactive:
        print("/reset forgets the conversation; Ctrl-C ends an answer, Ctrl-D the program.")
    while True:
        try:
            said = input("> " if interactive else "").strip()
        except EOFError:
            if interactive:
                print()
            return 0
        if said == "/reset":
            messages = list(beginning)
            continue
        if not said:
            continue
        messages.append({"role": "user", "content": said})
        try:
            outputs = llm.stream(llm.chat_prompt(messages), params)
        except ValueError as error:  # the conversation has become too long, or the template refuses
            if not interactive:
                raise
            print(f"{error}\n/reset begins again.", file=sys.stderr)
            messages.pop()
            continue
        answer = ""
        try:
            for output in outputs:
                answer += output.outputs[0].text
                print(output.outputs[0].text, end="", flush=True)
        except KeyboardInterrupt:
            if not interactive:
                raise
        print()
        messages.append({"role": "assistant", "content": answer})
