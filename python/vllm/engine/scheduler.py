"""Chooses the tokens that the model computes in the next step.

Every step has a token budget. Running sequences are scheduled first, in the order of their
admission: one token each while they decode, the next chunk while their prompt is not finished. The
rest of the budget admits waiting sequences in the order of their arrival. If the KV cache is full,
the running sequence that was admitted last is preempted: its blocks are freed, and it waits at the
front of the queue to be recomputed. So the oldest sequence can always run, and none starves.

All of this holds among sequences of the same priority. A lower number comes first everywhere: in
both queues and in the order of a step, and its sequences are preempted last. A waiting sequence
never preempts a running one. Sequences of a higher number may starve.
"""

from __future__ import annotations

from collections import deque
from typing import Deque, List, MutableSequence, NamedTuple, Tuple
from typing import Sequence as SequenceOf

from vllm.engine.block_manager import BlockManager
from vllm.engine.sequence import FinishReason, Sequence, SequenceStatus


class Chunk(NamedTuple):
    """Tokens [start, end) of a sequence, to be computed in one step.

    num_sampled: how many of its last tokens have their logits sampled: one if the chunk reaches the
        end of the sequence, so that a new token follows, otherwise none.
    source: if the host does not know the chunk's last token yet, the row of the previous step that
        samples it; otherwise -1.
    """

    seq: Sequence
    start: int
    end: int
    num_sampled: int
    source: int = -1


class Scheduler:
    """Continuous batching with chunked prefill, preemption by recomputation and cancellation.

    max_num_seqs: sequences that run at the same time.
    max_num_batched_tokens: tokens computed in a step; at least `max_num_seqs`.
    max_prompt_tokens: the same for a step in which no sequence decodes, so that none waits for it;
        `max_num_batched_tokens` if that is more.
    enable_chunked_prefill: if False, a prompt is computed in a single step, and waits until the
        whole of it fits in the budget.
    """

    def __init__(
        self,
        block_manager: BlockManager,
        *,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        max_prompt_tokens: int = 0,
        enable_chunked_prefill: bool = True,
    ) -> None:
        if not 1 <= max_num_seqs <= max_num_batched_tokens:
            raise ValueError(
                f"max_num_seqs must be in [1, max_num_batched_tokens = {max_num_batched_tokens}], "
                f"got {max_num_seqs}"
            )
        self.block_manager = block_manager
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = max_num_batched_tokens
        self.max_prompt_tokens = max(max_prompt_tokens, max_num_batched_tokens)
        self.enable_chunked_prefill = enable_chunked_prefill
        self.waiting: Deque[Sequence] = deque()
        self.running: List[Sequence] = []
        self.num_preemptions = 0
        self._num_rows = 0  # rows sampled by the step being scheduled
        self._counters = list(range(max_num_seqs))  # free rows of the device's token counts
        # Blocks kept free when a sequence is admitted, so that the running ones can grow for a
        # while before the new one is preempted.
        self._reserve = block_manager.num_blocks // 100

    @property
    def has_unfinished(self) -> bool:
        return bool(self.waiting or self.running)

    @property
    def max_seq_tokens(self) -> int:
        """The most tokens of a sequence that can run at all."""
        room = self.block_manager.num_blocks * self.block_manager.block_size
        return room if self.enable_chunked_prefill else min(room, self.max_num_batched_tokens)

    def add(self, seq: Sequence) -> None:
        """Queues a sequence. Raises ValueError if it can never run to its end."""
        self.check(seq)
        _insert_last(self.waiting, seq)

    def check(self, seq: Sequence) -> None:
        """Raises ValueError if a sequence can never run to its end."""
        # The last token is never computed: no token follows it.
        longest = seq.num_prompt_tokens + seq.max_tokens - 1
        if not seq.num_prompt_tokens or longest > self.max_seq_tokens:
            raise ValueError(
                f"a sequence of up to {longest} tokens ({seq.num_prompt_tokens} of prompt) "
                f"can never run: this engine takes 1 to {self.max_seq_tokens}. Lower max_tokens, "
                f"or enlarge the KV cache (num_kv_blocks, kv_cache_memory_bytes)"
            )

    def schedule(self) -> List[Chunk]:
        """The chunks of the next step, with KV blocks allocated; empty if no sequence can run.

        The caller computes the chunks and passes each step to `update`, in order. It may schedule
        the next step before that, more than once if it is empty: its sequences continue with tokens
        that the host does not know yet, and sequences that end with such a token are left out. If a
        sequence turns out to have ended, the token that the next step computed for it is discarded.
        """
        chunks: List[Chunk] = []
        self._num_rows = 0
        budget, preempted = self._schedule_running(chunks)
        if not preempted:
            self._schedule_waiting(chunks, budget)
        return chunks

    def update(self, chunks: SequenceOf[Chunk], token_ids: SequenceOf[int]) -> List[Sequence]:
        """Appends the sampled tokens of a step; returns the sequences that they finished.

        Tokens of sequences that have ended since the step was scheduled are discarded.

        token_ids: the sampled tokens, `num_sampled` for each chunk, in order.
        """
        finished = []
        block_size = self.block_manager.block_size
        tokens = iter(token_ids)
        for chunk in chunks:
            seq = chunk.seq
            for _ in range(chunk.num_sampled):
                token_id = next(tokens)
                if seq.finish_reason is None:
                    seq.num_pending -= 1
                    if seq.append(token_id):
                        finished.append(seq)
            if seq.num_pending and len(seq.token_ids) % block_size == 0:
                # The step in flight fills this block; only now is its last token, and so its hash,
                # known.
                self.block_manager.publish(seq, seq.num_computed_tokens)
        for seq in finished:
            if seq.status is SequenceStatus.WAITING:  # preempted while it was being computed
                self.waiting.remove(seq)
            self._release(seq)
        if finished:
            self.running = [seq for seq in self.running if not seq.is_finished]
        return finished

    def finish(self, seq: Sequence, reason: FinishReason) -> None:
        """Ends a sequence between steps; does nothing if it has ended."""
        if seq.is_finished:
            return
        if seq.status is SequenceStatus.RUNNING:
            self.running.remove(seq)
        else:
            self.waiting.remove(seq)
        seq.finish_reason = reason
        self._release(seq)

    def reset(self) -> None:
        """Drops every sequence and empties the cache. Works in any state."""
        self.waiting.clear()
        self.running = []
        self._counters = list(range(self.max_num_seqs))
        self.block_manager.reset()

    def _budget(self) -> int:
        decodes = any(seq.num_computed_tokens >= seq.num_prompt_tokens for seq in self.running)
        return self.max_num_batched_tokens if decodes else self.max_prompt_tokens

    def _schedule_running(self, chunks: List[Chunk]) -> Tuple[int, bool]:
        budget = self._budget()
        block_manager = self.block_manager
        block_size = block_manager.block_size
        running = self.running
        preempted = False
        index = 0
        while index < len(running) and budget:
            seq = running[index]
            index += 1
            if seq.num_pending and seq.last_is_pending:
                continue
            num_tokens = len(seq.token_ids) + seq.num_pending
            while num_tokens > len(seq.block_table) * block_size:
                if block_manager.grow(seq):
                    continue
                # The last one was admitted after this one, so it has no chunk in this step yet.
                self._preempt_last()
                preempted = True
                if seq.status is SequenceStatus.WAITING:
                    return budget, preempted
            # The others get a token each: a prompt of a higher priority does not stop them.
            others = len(running) - index
            budget -= self._add_chunk(chunks, seq, budget - others)
        return budget, preempted

    def _schedule_waiting(self, chunks: List[Chunk], budget: int) -> None:
        while self.waiting and budget and len(self.running) < self.max_num_seqs:
            seq = self.waiting[0]
            if seq.num_pending:  # preempted; the step in flight samples what is to be recomputed
                return
            # A sequence that runs alone may fill the whole cache.
            reserve = self._reserve if self.running else 0
            if not self.block_manager.allocate(seq, keep_free=reserve):
                return
            num_uncomputed = seq.num_tokens - seq.num_computed_tokens
            if num_uncomputed > budget and not self.enable_chunked_prefill:
                self.block_manager.free(seq)
                return
            self.waiting.popleft()
            seq.status = SequenceStatus.RUNNING
            if seq.has_penalties:
                seq.counter, seq.is_counted = self._counters.pop(), False
            if not seq.num_preemptions:  # after a preemption it would count its own blocks as hits
                seq.num_cached_tokens = seq.num_computed_tokens
            _insert_last(self.running, seq)
            budget -= self._add_chunk(chunks, seq, budget)

    def _add_chunk(self, chunks: List[Chunk], seq: Sequence, budget: int) -> int:
        start = seq.num_computed_tokens
        num_tokens = len(seq.token_ids) + seq.num_pending
        end = min(num_tokens, start + budget)
        num_sampled = int(end == num_tokens)
        source = seq.pending_row if seq.num_pending else -1
        chunks.append(Chunk(seq, start, end, num_sampled, source))
        if end // self.block_manager.block_size > seq.num_published_blocks:
            self.block_manager.publish(seq, end)
        seq.num_computed_tokens = end
        if num_sampled:
            seq.num_pending += 1
            seq.pending_row = self._num_rows
            self._num_rows += 1
        return end - start

    def _preempt_last(self) -> None:
        seq = self.running.pop()
        self._take_back(seq)
        seq.status = SequenceStatus.WAITING
        seq.num_preemptions += 1
        self.num_preemptions += 1
        place = 0
        while place < len(self.waiting) and self.waiting[place].priority < seq.priority:
            place += 1
        self.waiting.insert(place, seq)

    def _release(self, seq: Sequence) -> None:
        self._take_back(seq)
        seq.status = SequenceStatus.FINISHED

    def _take_back(self, seq: Sequence) -> None:
        """Frees the blocks and the counter of a sequence. A step in flight may still use them, but
        steps that reuse them are computed after it."""
        self.block_manager.free(seq)
        if seq.counter >= 0:
            self._counters.append(seq.counter)
            seq.counter = -1


def _insert_last(queue: MutableSequence[Sequence], seq: Sequence) -> None:
    """Inserts a sequence after those of its priority or a lower number."""
    place = len(queue)
    while place and queue[place - 1].priority > seq.priority:
        place -= 1
    queue.insert(place, seq)
