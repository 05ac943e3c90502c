"""Makes requests from prompts and sampling parameters, and checks both."""

from __future__ import annotations

import itertools
import random
from typing import Iterable, Iterator, List, Optional, Tuple
from typing import Sequence as SequenceOf

from vllm.config import GenerationDefaults, ModelConfig
from vllm.engine.constraints import Constraints, encode_bad_words
from vllm.engine.request import Request
from vllm.engine.sequence import Sequence
from vllm.numbers import as_integer
from vllm.sampling_params import SamplingParams
from vllm.text.grammars import GrammarCompiler
from vllm.text.prompts import Prompt, cache_salt_of, encode_prompt
from vllm.text.tokenizer import Tokenizer


class RequestMaker:
    """Knows the model's vocabulary and limits, but not the executor.

    tokenizer: None if prompts and outputs are only token ids.
    max_model_len: the most tokens of a sequence, prompt and output together.
    seed: of the random generator that seeds the requests which set none.
    scheduling_policy: as in `EngineArgs`; only "priority" accepts priorities other than 0.
    share: which of how many makers of the same engine this one is. Their sequences have different
        ids: modulo the number of makers, the id is the maker's number.
    """

    def __init__(
        self,
        model_config: ModelConfig,
        generation_defaults: GenerationDefaults,
        tokenizer: Optional[Tokenizer],
        max_model_len: int,
        *,
        seed: int = 0,
        scheduling_policy: str = "fcfs",
        share: Tuple[int, int] = (0, 1),
    ) -> None:
        self.model_config = model_config
        self.generation_defaults = generation_defaults
        self.tokenizer = tokenizer
        self.max_model_len = max_model_len
        self.scheduling_policy = scheduling_policy
        vocab_size = model_config.vocab_size
        self._eos_token_ids = frozenset(
            token for token in generation_defaults.eos_token_ids if 0 <= token < vocab_size
        )
        self._grammars: Optional[GrammarCompiler] = None
        if tokenizer is not None:
            self._grammars = GrammarCompiler(tokenizer, vocab_size, self._eos_token_ids)
        self._seq_ids = itertools.count(*share)
        # With the same draws, two makers would give the same seed to requests of theirs.
        self._seeds = random.Random(f"{seed}/{share[0]}" if share[0] else seed)

    def make(
        self,
        request_id: str,
        prompt: Prompt,
        params: Optional[SamplingParams] = None,
        *,
        priority: int = 0,
    ) -> Request:
        """Creates a request without queueing it. Raises ValueError if it cannot be served.

        params: None uses the defaults of the model's `generation_config.json`.
        priority: lower numbers are served first; 0 unless `scheduling_policy` is "priority".
        """
        params = self.generation_defaults.params() if params is None else params
        check_params(params)
        params = params.clone()  # the caller may change its own
        vocab_size = self.model_config.vocab_size
        text, token_ids = encode_prompt(
            prompt, self.tokenizer, vocab_size=vocab_size, max_model_len=self.max_model_len
        )
        outside = [token for token in params.stop_ids if token >= vocab_size]
        if outside:
            raise ValueError(f"stop_token_ids must be in [0, {vocab_size}), got {outside}")
        if params.stop_strings and self.tokenizer is None:
            raise ValueError("stop must be empty without a tokenizer: there is no text to search")
        seed = self._seeds.getrandbits(63) if params.seed is None else params.seed
        # Each continuation has its own seed; the first is the seed of a request with n = 1.
        seeds = [
            random.Random(f"{seed}/{index}").getrandbits(63) if index else seed
            for index in range(params.n)
        ]
        ids = itertools.islice(self._seq_ids, params.n)
        seqs = self.sequences(
            ids,
            token_ids,
            params,
            seeds,
            cache_salt=cache_salt_of(prompt),
            priority=self.check_priority(priority),
        )
        return Request(request_id, text, params, seqs, self.tokenizer)

    def sequences(
        self,
        seq_ids: Iterable[int],
        token_ids: SequenceOf[int],
        params: SamplingParams,
        seeds: SequenceOf[int],
        *,
        cache_salt: str = "",
        priority: int = 0,
    ) -> List[Sequence]:
        """Creates a sequence for each seed. Raises ValueError for invalid constraints."""
        room = self.max_model_len - len(token_ids)
        constraints = self._constraints(params)
        return [
            Sequence(
                seq_id,
                token_ids,
                params,
                max_tokens=room if params.max_tokens is None else min(params.max_tokens, room),
                seed=seed,
                eos_token_ids=self._eos_token_ids,
                constraints=next(constraints),
                cache_salt=cache_salt,
                priority=priority,
            )
            for seq_id, seed in zip(seq_ids, seeds)
        ]

    def check_priority(self, given: object) -> int:
        """Returns a priority as an int. Raises ValueError unless the scheduling policy takes it."""
        priority = as_integer(given)
        if priority is None or not -(2**63) <= priority < 2**63:
            raise ValueError(f"priority must be an integer of 64 bits, got {given!r}")
        if priority and self.scheduling_policy != "priority":
            raise ValueError(
                f"priority must be 0, got {priority}: this engine serves requests in the order of "
                "their arrival; scheduling_policy='priority' (--scheduling-policy priority) lets "
                "the lowest number go first"
            )
        return priority

    def _constraints(self, params: SamplingParams) -> Iterator[Optional[Constraints]]:
        """An endless iterator with the constraints of each sequence. Raises ValueError when
        called, not when iterated."""
        structured, words = params.structured_outputs, params.bad_words
        if not (structured or words or params.logit_bias or params.allowed_token_ids):
            return itertools.repeat(None)
        vocab_size = self.model_config.vocab_size
        for name, tokens in (
            ("logit_bias", params.logit_bias),
            ("allowed_token_ids", params.allowed_token_ids),
        ):
            outside = [token for token in tokens if token >= vocab_size]
            if outside:
                raise ValueError(f"{name} must be in [0, {vocab_size}), got {outside}")
        if (structured or words) and self.tokenizer is None:
            name = "structured_outputs" if structured else "bad_words"
            raise ValueError(f"{name} must be empty without a tokenizer: tokens have no text")
        bad_words: List[Tuple[int, ...]] = []
        grammar = None
        if self.tokenizer is not None:
            bad_words = encode_bad_words(words, self.tokenizer)
        if structured is not None:
            assert self._grammars is not None
            grammar = self._grammars.compile(structured)
        return (
            Constraints(params, bad_words, grammar.copy() if grammar else None, vocab_size)
            for _ in itertools.count()
        )


def check_params(params: object) -> None:
    if not isinstance(params, SamplingParams):
        raise ValueError(f"sampling parameters must be a SamplingParams, got {params!r}")
