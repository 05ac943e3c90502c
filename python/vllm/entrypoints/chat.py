"""``vllm chat``: a conversation in the terminal, with a model or with a server."""

from __future__ import annotations

import argparse
import sys
from typing import Callable, Dict, Iterator, List

from vllm.entrypoints.options import (
    MODEL_HELP,
    add_engine_groups,
    add_sampling_options,
    check_sampling,
    engine_fields,
    make_llm,
    option_of,
    sampling_fields,
)
from vllm.entrypoints.remote import Server, add_server_options
from vllm.sampling_params import RequestOutputKind

HELP = "talk to a model, with its own chat template, or to a server"

Messages = List[Dict[str, str]]
# Yields pieces of an answer's text. Raises ValueError if the conversation is rejected.
Answer = Callable[[Messages], Iterator[str]]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help=MODEL_HELP)
    parser.add_argument("--system", "--system-prompt", help="the conversation's system message")
    add_server_options(parser, url=None)
    add_engine_groups(parser)
    add_sampling_options(parser)


def run(args: argparse.Namespace) -> int:
    check_sampling(args)
    answer_to = _by_server(args) if args.url else _by_model(args)
    beginning = [{"role": "system", "content": args.system}] if args.system else []
    messages: Messages = list(beginning)
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
        answer = ""
        try:
            for text in answer_to(messages):
                answer += text
                print(text, end="", flush=True)
        except ValueError as error:  # the conversation is too long, or the template rejects it
            if not interactive:
                raise
            print(f"{error}\n/reset begins again.", file=sys.stderr)
            messages.pop()
            continue
        except KeyboardInterrupt:
            if not interactive:
                raise
        print()
        messages.append({"role": "assistant", "content": answer})


def _by_model(args: argparse.Namespace) -> Answer:
    if args.model is None:
        raise ValueError("name a model (vllm chat MODEL), or a server (vllm chat --url URL)")
    llm = make_llm(args)
    params = llm.engine.generation_defaults.params(
        output_kind=RequestOutputKind.DELTA, **sampling_fields(args)
    )

    def answer(messages: Messages) -> Iterator[str]:
        for output in llm.stream(llm.chat_prompt(messages), params):
            yield output.outputs[0].text

    return answer


def _by_server(args: argparse.Namespace) -> Answer:
    given = [option_of(name) for name in engine_fields(args)]
    if args.model is not None:
        given.insert(0, args.model)
    if given:
        raise ValueError(f"with --url the server has loaded the model: omit {', '.join(given)}")
    server = Server.of(args)
    fields = {name: value for name, value in sampling_fields(args).items() if value is not None}
    return lambda messages: server.chat(messages, fields)
