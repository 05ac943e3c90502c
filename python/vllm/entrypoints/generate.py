"""``vllm generate``: continue prompts."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, List, Sequence

from vllm.entrypoints.options import (
    add_engine_options,
    add_sampling_options,
    check_sampling,
    make_llm,
    sampling_fields,
)
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

if TYPE_CHECKING:
    from vllm.llm import LLM

HELP = "continue one prompt, streamed, or several, in a batch"


def configure(parser: argparse.ArgumentParser) -> None:
    add_engine_options(parser)
    parser.add_argument(
        "--prompt",
        action="append",
        help="may be given several times; without it, each line of standard input is a prompt",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per prompt")
    add_sampling_options(parser)


def run(args: argparse.Namespace) -> int:
    check_sampling(args)
    prompts: List[str] = args.prompt or [line for line in sys.stdin.read().split("\n") if line]
    if not prompts:
        raise ValueError("no prompt: give --prompt, or lines on standard input")
    llm = make_llm(args)
    fields = sampling_fields(args)
    started = time.monotonic()
    if len(prompts) == 1 and not args.json:
        params = llm.engine.generation_defaults.params(
            output_kind=RequestOutputKind.DELTA, **fields
        )
        outputs = [stream_text(llm, prompts[0], params)]
    else:
        params = llm.engine.generation_defaults.params(**fields)
        outputs = llm.generate(prompts, params, use_tqdm=sys.stderr.isatty())
        for output in outputs:
            print(_as_json(output) if args.json else _as_text(output))
    print(summary(outputs, time.monotonic() - started), file=sys.stderr)
    return 0


def stream_text(llm: LLM, prompt: object, params: SamplingParams) -> RequestOutput:
    """Prints text as it is generated; returns an output with all token ids, without text."""
    token_ids: List[int] = []
    last = None
    for last in llm.stream(prompt, params):  # type: ignore[arg-type]  # checked by the engine
        print(last.outputs[0].text, end="", flush=True)
        token_ids += last.outputs[0].token_ids
    print()
    assert last is not None
    last.outputs[0].token_ids[:] = token_ids
    return last


def summary(outputs: Sequence[RequestOutput], seconds: float) -> str:
    """One line with numbers of tokens, tokens per second and finish reasons."""
    prompt = sum(len(output.prompt_token_ids) for output in outputs)
    generated = sum(len(each.token_ids) for output in outputs for each in output.outputs)
    reasons = sorted({str(each.finish_reason) for output in outputs for each in output.outputs})
    return (
        f"[{prompt} prompt tokens, {generated} generated in {seconds:.2f} s: "
        f"{generated / seconds:.1f} tokens/s; ended by {', '.join(reasons)}]"
    )


def _as_text(output: RequestOutput) -> str:
    return f"{output.prompt}{output.outputs[0].text}\n"


def _as_json(output: RequestOutput) -> str:
    first = output.outputs[0]
    return json.dumps(
        {
            "prompt": output.prompt,
            "text": first.text,
            "finish_reason": first.finish_reason,
            "prompt_tokens": len(output.prompt_token_ids),
            "generated_tokens": len(first.token_ids),
        },
        ensure_ascii=False,
    )
