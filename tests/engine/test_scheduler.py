"""The scheduler against a model that is a function of the prefix.

The "model" of these tests writes, for every token, the whole prefix that its key and value would
depend on, and samples a token that is a function of that prefix. Whatever is shared, chunked,
preempted or cancelled, a sequence must read back its own prefixes and give the same tokens as
computed alone.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vllm.engine.block_manager import BlockManager
from vllm.engine.scheduler import Scheduler
from vllm.engine.sequence import FinishReason, Sequence, SequenceStatus
from vllm.sampling_params import SamplingParams

VOCAB = 3  # few tokens, so that prefixes often meet


def next_token(prefix):
    return hash(prefix) % VOCAB


class PrefixModel:
    """Stands where the model runner does: a cache of prefixes, and tokens that depend on them."""

    def __init__(self, block_size):
        self.block_size = block_size
        self.cache = {}

    def run(self, chunks):
        for seq, start, end, *_ in chunks:
            for position in range(start, end):
                slot = self._slot(seq, position)
                self.cache[slot] = tuple(seq.token_ids[: position + 1])
        for seq, _, end, *_ in chunks:
            for position in range(end):
                assert self.cache[self._slot(seq, position)] == tuple(seq.token_ids[: position + 1])
        # Sampled too early, a token would follow from the part that has been computed.
        return [
            next_token(tuple(seq.token_ids[:end]))
            for seq, _, end, num_sampled, _ in chunks
            if num_sampled
        ]

    def _slot(self, seq, position):
        return seq.block_table[position // self.block_size], position % self.block_size


def expected_output(prompt, max_tokens):
    tokens = list(prompt)
    for _ in range(max_tokens):
        tokens.append(next_token(tuple(tokens)))
    return tokens[len(prompt) :]


def run_to_end(scheduler, model, limit=10_000):
    steps = 0
    while scheduler.has_unfinished:
        chunks = scheduler.schedule()
        assert chunks, "sequences are left but nothing is scheduled"
        scheduler.update(chunks, model.run(chunks))
        steps += 1
        assert steps < limit
    return steps


def make_scheduler(num_blocks=8, block_size=4, *, prefix=True, **kwargs):
    kwargs = {"max_num_seqs": 4, "max_num_batched_tokens": 16, **kwargs}
    manager = BlockManager(num_blocks, block_size, enable_prefix_caching=prefix)
    return Scheduler(manager, **kwargs), PrefixModel(block_size)


def test_prefill_chunks_and_decode_share_the_budget(make_sequence):
    scheduler, model = make_scheduler(num_blocks=16, max_num_batched_tokens=6)
    short, long = make_sequence([1, 2]), make_sequence(list(range(10, 22)))
    scheduler.add(short)
    scheduler.add(long)
    spans = []
    for _ in range(4):
        chunks = scheduler.schedule()
        spans.append([(c.seq.seq_id - short.seq_id, c.start, c.end, c.num_sampled) for c in chunks])
        scheduler.update(chunks, model.run(chunks))
    assert spans == [
        [(0, 0, 2, 1), (1, 0, 4, 0)],
        [(0, 2, 3, 1), (1, 4, 9, 0)],
        [(0, 3, 4, 1), (1, 9, 12, 1)],
        [(0, 4, 5, 1), (1, 12, 13, 1)],
    ]


def test_a_step_in_which_no_sequence_decodes_has_a_budget_of_its_own(make_sequence):
    scheduler, model = make_scheduler(
        num_blocks=32, max_num_batched_tokens=5, max_prompt_tokens=10, prefix=False
    )
    first, second = make_sequence(range(13), 3), make_sequence(range(20), 1)
    scheduler.add(first)
    scheduler.add(second)
    lengths = []
    while scheduler.has_unfinished:
        chunks = scheduler.schedule()
        lengths.append([c.end - c.start for c in chunks])
        scheduler.update(chunks, model.run(chunks))
    assert lengths == [[10], [3, 7], [1, 4], [1, 4], [5]]


def test_an_urgent_prompt_does_not_stop_those_that_decode(make_sequence):
    scheduler, model = make_scheduler(num_blocks=16, max_num_batched_tokens=6, prefix=False)
    decoding = [make_sequence([1], 8), make_sequence([2], 8)]
    urgent = make_sequence(range(10, 20), 1)
    urgent.priority = -1
    for seq in decoding:
        scheduler.add(seq)
    spans = []
    for step in range(4):
        if step == 1:
            scheduler.add(urgent)
        chunks = scheduler.schedule()
        spans.append([(c.seq.seq_id - decoding[0].seq_id, c.end - c.start) for c in chunks])
        scheduler.update(chunks, model.run(chunks))
    assert spans == [
        [(0, 1), (1, 1)],
        [(0, 1), (1, 1), (2, 4)],
        [(2, 4), (0, 1), (1, 1)],
        [(2, 2), (0, 1), (1, 1)],
    ]


def test_equal_prompts_of_one_step_are_computed_once(make_sequence):
    scheduler, model = make_scheduler(num_blocks=32, max_num_batched_tokens=64)
    seqs = [make_sequence(range(13), max_tokens=2) for _ in range(4)]
    for seq in seqs:
        scheduler.add(seq)
    chunks = scheduler.schedule()
    assert [c.end - c.start for c in chunks] == [13, 1, 1, 1]
    scheduler.update(chunks, model.run(chunks))
    run_to_end(scheduler, model)
    assert {tuple(s.output_token_ids) for s in seqs} == {tuple(expected_output(range(13), 2))}


def test_the_last_admitted_is_preempted_and_comes_back_first(make_sequence):
    scheduler, model = make_scheduler(num_blocks=5, block_size=2, prefix=False)
    first, second = make_sequence([1, 2, 0, 1], 6), make_sequence([2, 2, 2, 2], 6)
    third = make_sequence([0], 1)
    for seq in (first, second, third):
        scheduler.add(seq)
    while not second.num_preemptions:
        chunks = scheduler.schedule()
        scheduler.update(chunks, model.run(chunks))
    assert first.status is SequenceStatus.RUNNING
    assert scheduler.waiting[0] is second
    run_to_end(scheduler, model)
    assert second.output_token_ids == expected_output([2, 2, 2, 2], 6)
    assert first.output_token_ids == expected_output([1, 2, 0, 1], 6)
    assert first.num_preemptions == 0


def test_who_is_preempted_waits_for_the_token_of_the_step_in_flight(make_sequence):
    """However often the next step is asked for meanwhile: what is to be recomputed ends with it."""
    scheduler, _ = make_scheduler(2, 1)
    for max_tokens in (1, 2):
        scheduler.add(make_sequence([max_tokens], max_tokens))
    in_flight = scheduler.schedule()
    assert scheduler.schedule() == []
    (preempted,) = scheduler.waiting
    assert scheduler.schedule() == []
    scheduler.update(in_flight, [1, 1])
    (chunk,) = scheduler.schedule()
    assert (chunk.seq, chunk.end, chunk.source) == (preempted, 2, -1)


def test_the_lowest_priority_goes_first_and_gives_up_its_blocks_last(make_sequence):
    scheduler, model = make_scheduler(num_blocks=6, block_size=2, prefix=False, max_num_seqs=2)
    late, usual, urgent = (make_sequence([at, 1, 2, 0], 7) for at in range(3))
    for seq, priority in ((late, 5), (usual, 0), (urgent, -5)):
        seq.priority = priority
    scheduler.add(late)
    chunks = scheduler.schedule()
    scheduler.update(chunks, model.run(chunks))
    scheduler.add(usual)
    scheduler.add(urgent)
    assert list(scheduler.waiting) == [urgent, usual]
    ended = []
    while scheduler.has_unfinished:
        chunks = scheduler.schedule()
        ended += scheduler.update(chunks, model.run(chunks))
    # No two fit to their ends: the one that was there first has made room.
    assert ended == [urgent, usual, late]
    assert late.num_preemptions > 0
    assert urgent.num_preemptions == 0
    assert late.output_token_ids == expected_output([0, 1, 2, 0], 7)


def test_without_chunks_a_prompt_is_computed_whole(make_sequence):
    scheduler, model = make_scheduler(
        num_blocks=32, max_num_batched_tokens=12, enable_chunked_prefill=False
    )
    seqs = [make_sequence([i] * 9, 3) for i in range(3)]
    for seq in seqs:
        scheduler.add(seq)
    while scheduler.has_unfinished:
        chunks = scheduler.schedule()
        assert all(c.num_sampled for c in chunks)
        assert sum(c.end - c.start for c in chunks) <= 12
        scheduler.update(chunks, model.run(chunks))


def test_what_can_never_run_is_refused(make_sequence):
    scheduler, _ = make_scheduler(num_blocks=2, block_size=4)
    scheduler.add(make_sequence([1] * 5, 4))  # the ninth token is sampled, never computed
    with pytest.raises(ValueError, match=r"up to 9 tokens \(5 of prompt\) can never run.*1 to 8"):
        scheduler.add(make_sequence([1] * 5, 5))
    with pytest.raises(ValueError, match="can never run"):
        scheduler.add(make_sequence([], 1))
    whole, _ = make_scheduler(num_blocks=32, enable_chunked_prefill=False)
    with pytest.raises(ValueError, match="1 to 16"):
        whole.add(make_sequence([1] * 16, 2))
    with pytest.raises(
        ValueError, match=r"max_num_seqs must be in \[1, max_num_batched_tokens = 2"
    ):
        Scheduler(BlockManager(1, 1), max_num_seqs=3, max_num_batched_tokens=2)


def test_a_finished_sequence_can_be_finished_again(make_sequence):
    scheduler, model = make_scheduler()
    seq = make_sequence([1], 1)
    scheduler.add(seq)
    run_to_end(scheduler, model)
    scheduler.finish(seq, FinishReason.ABORT)
    assert seq.finish_reason is FinishReason.LENGTH


def test_a_prompt_that_was_cancelled_half_way_spares_only_what_was_computed(make_sequence):
    scheduler, model = make_scheduler(num_blocks=32, max_num_seqs=1, max_num_batched_tokens=6)
    first, second = make_sequence(range(20)), make_sequence(range(20), 2)
    scheduler.add(first)
    chunks = scheduler.schedule()
    scheduler.update(chunks, model.run(chunks))
    scheduler.finish(first, FinishReason.ABORT)
    scheduler.add(second)
    run_to_end(scheduler, model)
    assert second.num_cached_tokens == 4
    assert second.output_token_ids == expected_output(range(20), 2)


@given(
    block_size=st.integers(1, 6),
    budget=st.integers(2, 20),
    lengths=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 12)), min_size=1, max_size=6),
    data=st.data(),
)
def test_whatever_was_computed_is_hit_in_full(block_size, budget, lengths, data):
    """A cache that holds everything spares every full block of prompt and output together."""
    scheduler, model = make_scheduler(
        num_blocks=300, block_size=block_size, max_num_seqs=2, max_num_batched_tokens=budget
    )
    known = []
    for seq_id, (num_prompt, max_tokens) in enumerate(lengths):
        prompt = data.draw(st.lists(st.integers(0, 1), min_size=num_prompt, max_size=num_prompt))
        seq = Sequence(seq_id, prompt, SamplingParams(), max_tokens=max_tokens)
        scheduler.add(seq)
        known.append(seq)
    run_to_end(scheduler, model)
    for seq in known:
        size = data.draw(st.integers(1, seq.num_tokens))
        # The last token was sampled, and never computed.
        num_known = min(size - 1, seq.num_tokens - 1)
        again = Sequence(1000 + seq.seq_id, seq.token_ids[:size], SamplingParams(), max_tokens=1)
        scheduler.add(again)
        run_to_end(scheduler, model)
        assert again.num_cached_tokens >= num_known // block_size * block_size


def order(seq):
    """By priority, then by arrival."""
    return seq.priority, seq.seq_id


class SchedulerMachine(RuleBasedStateMachine):
    """Requests arrive, are cancelled and are stepped in any order, in a cache that is too small."""

    @initialize(
        block_size=st.integers(1, 5),
        num_blocks=st.integers(3, 12),
        max_num_seqs=st.integers(1, 5),
        extra_budget=st.integers(0, 12),
        prefix=st.booleans(),
        chunked=st.booleans(),
        priorities=st.sampled_from([[0], [0, 0, -1, 5]]),
        prompt_budget=st.sampled_from([0, 20]),
    )
    def start(
        self,
        block_size,
        num_blocks,
        max_num_seqs,
        extra_budget,
        prefix,
        chunked,
        priorities,
        prompt_budget,
    ):
        self.priorities = priorities
        self.manager = BlockManager(num_blocks, block_size, enable_prefix_caching=prefix)
        self.scheduler = Scheduler(
            self.manager,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_seqs + extra_budget,
            max_prompt_tokens=prompt_budget,
            enable_chunked_prefill=chunked,
        )
        self.model = PrefixModel(block_size)
        self.live = []
        self.next_id = 0

    @rule(data=st.data())
    def add(self, data):
        room = self.scheduler.max_seq_tokens
        prompt = data.draw(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=room))
        max_tokens = data.draw(st.integers(1, room - len(prompt) + 1))
        params = SamplingParams(prompt_logprobs=data.draw(st.sampled_from([None, None, 0])))
        priority = data.draw(st.sampled_from(self.priorities))
        seq = Sequence(self.next_id, prompt, params, max_tokens=max_tokens, priority=priority)
        self.next_id += 1
        self.scheduler.add(seq)
        self.live.append((seq, prompt))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def cancel(self, data):
        seq, _ = self.live.pop(data.draw(st.integers(0, len(self.live) - 1)))
        self.scheduler.finish(seq, FinishReason.ABORT)

    @rule(times=st.integers(1, 6))
    def step(self, times):
        for _ in range(times):
            ran_before, preempted_before = self.scheduler.running[:], self.scheduler.num_preemptions
            first_waiting = self.scheduler.waiting[0] if self.scheduler.waiting else None
            decodes = any(s.num_computed_tokens >= s.num_prompt_tokens for s in ran_before)
            budget = self.scheduler.max_num_batched_tokens
            if not decodes:
                budget = max(budget, self.scheduler.max_prompt_tokens)
            chunks = self.scheduler.schedule()
            assert bool(chunks) == self.scheduler.has_unfinished
            assert sum(c.end - c.start for c in chunks) <= budget
            assert len(chunks) <= self.scheduler.max_num_seqs
            assert all(c.start < c.end <= c.seq.num_tokens for c in chunks)
            # Nobody starves: whoever runs makes progress in every step.
            computed = [c.seq for c in chunks]
            assert sorted(computed, key=order) == self.scheduler.running
            # Those that ran before come before those that are let in.
            assert computed[: len(ran_before)] == ran_before[: len(computed)]
            num_preempted = self.scheduler.num_preemptions - preempted_before
            if num_preempted:  # nobody is let in while there is not enough for those who run
                assert self.scheduler.running == ran_before[:-num_preempted]
            elif len(computed) > len(ran_before):
                assert computed[len(ran_before)] is first_waiting
            self.scheduler.update(chunks, self.model.run(chunks))
            for seq, prompt in [pair for pair in self.live if pair[0].is_finished]:
                assert seq.output_token_ids == expected_output(prompt, seq.max_tokens)
            self.live = [pair for pair in self.live if not pair[0].is_finished]

    @invariant()
    def blocks_are_neither_lost_nor_doubly_owned(self):
        if not hasattr(self, "manager"):
            return
        references = {}
        for seq in self.scheduler.running:
            assert len(set(seq.block_table)) == len(seq.block_table)
            for block in seq.block_table:
                references[block] = references.get(block, 0) + 1
            assert seq.status is SequenceStatus.RUNNING
        for seq in self.scheduler.waiting:
            assert seq.status is SequenceStatus.WAITING
            assert not seq.block_table
            assert seq.num_computed_tokens == seq.num_published_blocks == 0
        counts = self.manager._ref_counts
        assert {b: n for b, n in enumerate(counts) if n} == references
        assert set(self.manager._free) == {b for b, n in enumerate(counts) if not n}
        hashes = {block: each for each, block in self.manager._block_of_hash.items()}
        assert hashes == {b: h for b, h in enumerate(self.manager._hashes) if h is not None}

    @invariant()
    def who_came_first_is_ahead(self):
        """Also of those that were preempted: with progress in every step, nobody starves of those
        with one priority."""
        if not hasattr(self, "scheduler"):
            return
        for queue in (self.scheduler.running, self.scheduler.waiting):
            assert list(queue) == sorted(queue, key=order)
        for priority in self.priorities:
            queues = (*self.scheduler.running, *self.scheduler.waiting)
            ids = [seq.seq_id for seq in queues if seq.priority == priority]
            assert ids == sorted(ids)

    def teardown(self):
        if not hasattr(self, "scheduler"):
            return
        run_to_end(self.scheduler, self.model)
        for seq, prompt in self.live:
            assert seq.output_token_ids == expected_output(prompt, seq.max_tokens)
        assert self.manager.num_free_blocks == self.manager.num_blocks


SchedulerMachine.TestCase.settings = settings(max_examples=300, stateful_step_count=30)
TestScheduler = SchedulerMachine.TestCase
