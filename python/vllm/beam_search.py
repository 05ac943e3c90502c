"""Beam search: at each length, only the most likely continuations (beams) are extended."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Callable, FrozenSet, List, Optional, Tuple
from typing import Sequence as SequenceOf

from vllm.outputs import TokenLogprobs
from vllm.sampling_params import BeamSearchParams


@dataclass(frozen=True)
class BeamSearchSequence:
    """A continuation with its prompt.

    tokens: token ids of the prompt and the continuation.
    cum_logprob: the sum of the log-probabilities of the continuation's tokens.
    text: the text of the continuation; None without a tokenizer.
    finish_reason: "stop" with an end-of-sequence token, else "length".
    """

    tokens: List[int]
    cum_logprob: float = 0.0
    text: Optional[str] = None
    finish_reason: Optional[str] = None


@dataclass(frozen=True)
class BeamSearchOutput:
    """The best continuations of a prompt, the best first."""

    sequences: List[BeamSearchSequence]


# For each of several token sequences, the log-probabilities of the most likely next tokens.
NextLogprobs = Callable[[SequenceOf[List[int]]], List[TokenLogprobs]]


def search(
    prompts: SequenceOf[List[int]],
    params: BeamSearchParams,
    next_logprobs: NextLogprobs,
    *,
    eos_token_ids: FrozenSet[int],
) -> List[List[BeamSearchSequence]]:
    """The best continuations of each prompt, without their text.

    next_logprobs: must return at least 2 * beam_width tokens per sequence, so that at least
        beam_width of them do not end it.
    """
    ending = frozenset() if params.ignore_eos else eos_token_ids
    beams = [[BeamSearchSequence(list(prompt))] for prompt in prompts]
    complete: List[List[BeamSearchSequence]] = [[] for _ in prompts]
    for _ in range(params.max_tokens):
        found = iter(next_logprobs([beam.tokens for each in beams for beam in each]))
        for index, each in enumerate(beams):
            ended, beams[index] = _longer([(beam, next(found)) for beam in each], params, ending)
            complete[index] += ended
    for index, each in enumerate(beams):
        complete[index] += [dataclasses.replace(beam, finish_reason="length") for beam in each]
    return [_best(found_ones, params, len(prompt)) for found_ones, prompt in zip(complete, prompts)]


def _longer(
    beams: SequenceOf[Tuple[BeamSearchSequence, TokenLogprobs]],
    params: BeamSearchParams,
    ending: FrozenSet[int],
) -> Tuple[List[BeamSearchSequence], List[BeamSearchSequence]]:
    """Extends beams by one token. Returns those that end with it, and the best of the others."""
    longer = [
        BeamSearchSequence(
            [*beam.tokens, token],
            beam.cum_logprob + entry.logprob,
            finish_reason="stop" if token in ending else None,
        )
        for beam, logprobs in beams
        for token, entry in logprobs.items()
    ]
    longer.sort(key=lambda each: each.cum_logprob, reverse=True)
    ended = [each for each in longer[: 2 * params.beam_width] if each.finish_reason]
    going_on = [each for each in longer if not each.finish_reason]
    return ended, going_on[: params.beam_width]


def _best(
    found: SequenceOf[BeamSearchSequence], params: BeamSearchParams, num_prompt_tokens: int
) -> List[BeamSearchSequence]:
    def score(each: BeamSearchSequence) -> float:
        length: float = (len(each.tokens) - num_prompt_tokens) ** params.length_penalty
        return each.cum_logprob / length

    return sorted(found, key=score, reverse=True)[: params.beam_width]
