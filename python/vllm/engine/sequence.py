"""A sequence: one continuation of one prompt, and how far the model has computed it."""

from __future__ import annotations

import enum
from array import array
from typing import FrozenSet, List, Optional, Union
from typing import Sequence as SequenceOf

from vllm.engine.constraints import Constraints
from vllm.sampling_params import SamplingParams
from vllm.text.grammars import GrammarError


class SequenceStatus(enum.Enum):
    """The state of a sequence; a preempted one is waiting again."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


class FinishReason(str, enum.Enum):
    """Why a sequence ended; the values appear in `CompletionOutput.finish_reason`."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


class Sequence:
    """The tokens of a sequence, and the KV blocks with the keys and values of the computed ones.

    Prefill and decode are not distinguished: the model has computed the first
    ``num_computed_tokens`` tokens, and whenever it reaches the last one a new token is sampled.
    Preemption sets ``num_computed_tokens`` to zero and changes nothing else.

    block_table: entry i is the KV block of tokens [i * block_size, (i + 1) * block_size).
    block_hashes: chained hashes of the full blocks, maintained by the block manager.
    cache_salt: only sequences with the same salt share blocks.
    priority: lower numbers are scheduled first.
    num_published_blocks: leading blocks that other sequences may already share.
    num_pending: tokens of steps in flight that the host does not know yet; no other field counts
        them.
    pending_row: the row of the step in flight that samples the last of them.
    has_penalties: whether a repetition, presence or frequency penalty is set.
    counter: its row in the device's token counts; -1 without penalties or while it does not run.
    is_counted: whether the initial token counts have been written to that row.
    constraints: limits on the output tokens; None without any.
    ends_with_stop_token: whether its last token ended it and is not part of its text.
    is_special: whether it has penalties, constraints, a minimum length or log-probabilities.
    is_plain: whether it is sampled greedily and is not special.
    max_tokens: the most output tokens.
    """

    __slots__ = (
        "block_hashes",
        "block_table",
        "cache_salt",
        "constraints",
        "counter",
        "ends_with_stop_token",
        "eos_token_ids",
        "finish_reason",
        "has_penalties",
        "is_counted",
        "is_plain",
        "is_special",
        "max_tokens",
        "num_cached_tokens",
        "num_computed_tokens",
        "num_pending",
        "num_preemptions",
        "num_prompt_tokens",
        "num_published_blocks",
        "params",
        "pending_row",
        "priority",
        "prompt_logprobs_wanted",
        "seed",
        "seq_id",
        "status",
        "stop_reason",
        "token_ids",
    )

    def __init__(
        self,
        seq_id: int,
        prompt_token_ids: SequenceOf[int],
        params: SamplingParams,
        *,
        max_tokens: int,
        seed: int = 0,
        eos_token_ids: FrozenSet[int] = frozenset(),
        constraints: Optional[Constraints] = None,
        cache_salt: str = "",
        priority: int = 0,
    ) -> None:
        self.seq_id = seq_id
        self.token_ids: List[int] = list(prompt_token_ids)
        self.num_prompt_tokens = len(self.token_ids)
        self.params = params
        self.max_tokens = max_tokens
        self.seed = seed
        self.eos_token_ids = eos_token_ids
        self.status = SequenceStatus.WAITING
        self.finish_reason: Optional[FinishReason] = None
        self.stop_reason: Union[int, str, None] = None
        self.block_table = array("i")
        self.block_hashes: List[bytes] = []
        self.num_published_blocks = 0
        self.num_computed_tokens = 0
        self.num_pending = 0
        self.pending_row = -1
        self.num_cached_tokens = 0
        self.num_preemptions = 0
        self.has_penalties = params.has_penalties
        self.counter = -1
        self.is_counted = False
        self.constraints = constraints
        self.cache_salt = cache_salt
        self.priority = priority
        self.ends_with_stop_token = False
        self.is_special = (
            constraints is not None
            or self.has_penalties
            or params.min_tokens > 0
            or params.logprobs is not None
        )
        self.is_plain = params.is_greedy and not self.is_special
        # Prompt log-probabilities need every position computed, so until all are known the
        # sequence takes no blocks from the prefix cache.
        self.prompt_logprobs_wanted = params.prompt_logprobs is not None

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def output_token_ids(self) -> List[int]:
        return self.token_ids[self.num_prompt_tokens :]

    @property
    def is_finished(self) -> bool:
        return self.status is SequenceStatus.FINISHED

    @property
    def last_is_pending(self) -> bool:
        """Whether it ends with a token that is pending, whatever that is."""
        num_output = len(self.token_ids) - self.num_prompt_tokens
        return self.num_pending > 0 and num_output + self.num_pending >= self.max_tokens

    def ending_token_ids(self) -> FrozenSet[int]:
        """The tokens that end this sequence when sampled."""
        if self.params.ignore_eos:
            return frozenset(self.params.stop_ids)
        return self.eos_token_ids.union(self.params.stop_ids)

    def append(self, token_id: int) -> bool:
        """Appends a sampled token; sets `finish_reason` and returns True if it ends the
        sequence."""
        self.token_ids.append(token_id)
        num_output = len(self.token_ids) - self.num_prompt_tokens
        params = self.params
        if num_output > params.min_tokens:  # before that, such tokens are masked out
            if token_id in self.eos_token_ids and not params.ignore_eos:
                self.finish_reason = FinishReason.STOP
                self.ends_with_stop_token = True
                return True
            if token_id in params.stop_ids:
                self.finish_reason = FinishReason.STOP
                self.ends_with_stop_token = True
                self.stop_reason = token_id
                return True
        if self.constraints is not None:
            try:
                is_complete = self.constraints.accept(token_id)
            except GrammarError as error:
                self.finish_reason = FinishReason.ERROR
                self.stop_reason = str(error)
                self.ends_with_stop_token = True
                return True
            if is_complete:
                self.finish_reason = FinishReason.STOP
                self.ends_with_stop_token = self.constraints.is_end(token_id)
                return True
        if num_output >= self.max_tokens:
            self.finish_reason = FinishReason.LENGTH
            return True
        return False

    def __repr__(self) -> str:
        return (
            f"Sequence({self.seq_id}, {self.status.value}, prompt={self.num_prompt_tokens}, "
            f"output={self.num_output_tokens}, computed={self.num_computed_tokens})"
        )
