"""The requests of a benchmark: prompts and output lengths."""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, List, Mapping, Tuple, Union

if TYPE_CHECKING:
    from vllm.text.tokenizer import Tokenizer

# Limits for conversations of a ShareGPT file, as in vLLM; others are skipped.
_MIN_TOKENS, _MAX_PROMPT, _MAX_TOTAL = 4, 1024, 2048


@dataclass(frozen=True)
class SampleRequest:
    """One request. prompt: text, or token ids; both lengths are in tokens."""

    prompt: Union[str, List[int]]
    prompt_len: int
    output_len: int


@dataclass(frozen=True)
class TokensAlone:
    """Replaces a tokenizer if prompts are token ids."""

    vocab_size: int


def add_dataset_options(parser: argparse.ArgumentParser, *, with_seed: bool = True) -> None:
    group = parser.add_argument_group("prompts")
    group.add_argument(
        "--dataset-name",
        choices=sorted(_DATASETS),
        default="random",
        help="where prompts come from (random)",
    )
    group.add_argument(
        "--dataset-path",
        type=Path,
        metavar="FILE",
        help="a ShareGPT file, or one of JSON lines (custom)",
    )
    group.add_argument("--num-prompts", type=int, default=1000, help="number of requests (1000)")
    if with_seed:
        group.add_argument("--seed", type=int, default=0, help="for prompts and arrival times (0)")
    group.add_argument(
        "--disable-shuffle", action="store_true", help="keep the order of a file's prompts"
    )
    group.add_argument(
        "--no-oversample", action="store_true", help="use each prompt of a file at most once"
    )
    group.add_argument(
        "--skip-chat-template",
        action="store_true",
        help="do not apply the chat template to prompts of JSON lines",
    )
    for name, default, text in (
        ("sharegpt-output-len", None, "tokens of every answer, instead of the file's"),
        ("custom-output-len", 256, "tokens of every answer"),
        ("random-input-len", 1024, "tokens of a prompt"),
        ("random-output-len", 128, "tokens of an answer"),
        ("random-prefix-len", 0, "tokens of a common prefix, in addition"),
        ("prefix-repetition-prefix-len", 256, "tokens of a shared prefix"),
        ("prefix-repetition-suffix-len", 256, "tokens of the suffix after it"),
        ("prefix-repetition-num-prefixes", 10, "number of prefixes"),
        ("prefix-repetition-output-len", 128, "tokens of an answer"),
    ):
        shown = text if default is None else f"{text} ({default})"
        group.add_argument(f"--{name}", type=int, default=default, metavar="N", help=shown)
    group.add_argument(
        "--random-range-ratio",
        type=float,
        default=0.0,
        metavar="R",
        help="vary lengths by a factor of 1 ± R, with R in [0, 1) (0)",
    )


def check_dataset(args: argparse.Namespace) -> None:
    """Raises ValueError for options that are out of range."""
    for name, value in sorted(vars(args).items()):
        is_length = name.startswith(("random_", "prefix_repetition_"))
        is_length = is_length or name in ("sharegpt_output_len", "custom_output_len")
        least = 0 if name == "random_prefix_len" else 1
        if (is_length or name == "num_prompts") and isinstance(value, int) and value < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    if not 0 <= args.random_range_ratio < 1:
        raise ValueError(f"--random-range-ratio must be in [0, 1), got {args.random_range_ratio}")
    if args.dataset_name in ("sharegpt", "custom") and args.dataset_path is None:
        raise ValueError(f"--dataset-name {args.dataset_name} needs --dataset-path")


def make_samples(
    args: argparse.Namespace, tokenizer: Union[Tokenizer, TokensAlone], *, as_text: bool
) -> List[SampleRequest]:
    """The requests; equal seeds give equal requests.

    as_text: prompts are text, whose number of tokens may differ slightly from the requested one;
    otherwise token ids, unless the dataset consists of texts.
    Raises ValueError for an unreadable file, and for text without a tokenizer.
    """
    if isinstance(tokenizer, TokensAlone) and (as_text or args.dataset_path):
        raise ValueError(f"--dataset-name {args.dataset_name} is text, which needs a tokenizer")
    generator = random.Random(args.seed)
    return _DATASETS[args.dataset_name](args, tokenizer, generator, as_text)


def _random(
    args: argparse.Namespace, tokenizer: Tokenizer, generator: random.Random, as_text: bool
) -> List[SampleRequest]:
    ratio = args.random_range_ratio
    prefix = _tokens(generator, tokenizer, args.random_prefix_len)

    def length(middle: int) -> int:
        return max(1, generator.randint(int(middle * (1 - ratio)), int(middle * (1 + ratio))))

    made = []
    for _ in range(args.num_prompts):
        ids = prefix + _tokens(generator, tokenizer, length(args.random_input_len))
        made.append(_sample(tokenizer, ids, length(args.random_output_len), as_text))
    return made


def _prefix_repetition(
    args: argparse.Namespace, tokenizer: Tokenizer, generator: random.Random, as_text: bool
) -> List[SampleRequest]:
    count, output_len = args.prefix_repetition_num_prefixes, args.prefix_repetition_output_len
    length = args.prefix_repetition_prefix_len
    prefixes = [_tokens(generator, tokenizer, length) for _ in range(count)]
    made = []
    for number in range(args.num_prompts):
        suffix = _tokens(generator, tokenizer, args.prefix_repetition_suffix_len)
        made.append(_sample(tokenizer, prefixes[number % count] + suffix, output_len, as_text))
    generator.shuffle(made)
    return made


def _sharegpt(
    args: argparse.Namespace, tokenizer: Tokenizer, generator: random.Random, as_text: bool
) -> List[SampleRequest]:
    made: List[SampleRequest] = []
    turns = _first_turns(args.dataset_path)
    if not args.disable_shuffle:
        generator.shuffle(turns)
    for prompt, answer in turns:
        if len(made) == args.num_prompts:
            break
        prompt_len = len(tokenizer.encode(prompt))
        output_len = args.sharegpt_output_len or len(tokenizer.encode(answer))
        if min(prompt_len, output_len) < _MIN_TOKENS or prompt_len > _MAX_PROMPT:
            continue
        if prompt_len + output_len <= _MAX_TOTAL:
            made.append(SampleRequest(prompt, prompt_len, output_len))
    if not made:
        raise ValueError(
            f"--dataset-path: {args.dataset_path} has no conversation within the limits of length"
        )
    return made


def _custom(
    args: argparse.Namespace, tokenizer: Tokenizer, generator: random.Random, as_text: bool
) -> List[SampleRequest]:
    """Prompts of a file, repeated if there are too few.

    Each is a user's message in the chat template, unless the template is skipped; a chat endpoint
    applies it itself.
    """
    path = args.dataset_path
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # JSON may have U+2028 in a string
        prompts = [str(json.loads(line)["prompt"]) for line in lines if line.strip()]
    except OSError as error:
        raise ValueError(f"--dataset-path: {path} cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'--dataset-path: {path} must have lines like {{"prompt": "…"}} ({error!r})'
        ) from error
    if not prompts:
        raise ValueError(f"--dataset-path: {path} has no prompts")
    if not args.disable_shuffle:
        generator.shuffle(prompts)
    samples = [_asked(args, tokenizer, prompt, as_text) for prompt in prompts]
    count = min(args.num_prompts, len(prompts)) if args.no_oversample else args.num_prompts
    return [samples[number % len(samples)] for number in range(count)]


def _asked(
    args: argparse.Namespace, tokenizer: Tokenizer, prompt: str, as_text: bool
) -> SampleRequest:
    if args.skip_chat_template or as_text:
        return SampleRequest(prompt, len(tokenizer.encode(prompt)), args.custom_output_len)
    text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}])
    ids = tokenizer.encode(text, add_special_tokens=False)  # the template added them
    return SampleRequest(ids, len(ids), args.custom_output_len)


def _first_turns(path: Path) -> List[Tuple[str, str]]:
    """The first question and answer of each conversation. Raises ValueError."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
        found = [each["conversations"] for each in loaded]
        return [(turns[0]["value"], turns[1]["value"]) for turns in found if len(turns) > 1]
    except OSError as error:
        raise ValueError(f"--dataset-path: {path} cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"--dataset-path: {path} is not a ShareGPT file: a list of objects with "
            f"'conversations', lists of objects with 'value' ({error!r})"
        ) from error


def _tokens(generator: random.Random, tokenizer: Tokenizer, count: int) -> List[int]:
    return [generator.randrange(tokenizer.vocab_size) for _ in range(count)]


def _sample(tokenizer: Tokenizer, ids: List[int], output_len: int, as_text: bool) -> SampleRequest:
    if not as_text:
        return SampleRequest(ids, len(ids), output_len)
    text = tokenizer.decode(ids)
    return SampleRequest(text, len(tokenizer.encode(text)), output_len)


_Make = Callable[[argparse.Namespace, Any, random.Random, bool], List[SampleRequest]]
_DATASETS: Mapping[str, _Make] = {
    "custom": _custom,
    "prefix_repetition": _prefix_repetition,
    "random": _random,
    "sharegpt": _sharegpt,
}
