"""From chunks to the buffer that describes a step."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm.engine.describe import StepWriter
from vllm.engine.scheduler import Chunk
from vllm.sampling_params import SamplingParams

VOCAB = 50
BLOCK_SIZE = 4


class Memory:
    """What the writer wants of an executor."""

    num_blocks = 8
    block_size = BLOCK_SIZE
    max_rows = 16

    def allocate(self, nbytes):
        return memoryview(bytearray(nbytes))

    def room(self, size):
        return 0


@pytest.fixture
def writer():
    return StepWriter(Memory(), VOCAB)


def with_blocks(seq, blocks):
    seq.block_table = array("i", blocks)
    return seq


def sampled(seq):
    """The chunk of a sequence that has one token left to compute."""
    if not seq.block_table:
        with_blocks(seq, range(-(-seq.num_tokens // BLOCK_SIZE)))
    return Chunk(seq, seq.num_tokens - 1, seq.num_tokens, 1)


def changes_of(step):
    """{(row, token, after): amount}"""
    count = step.num_changes
    keys = zip(step.change_rows[:count], step.change_tokens[:count], step.change_after[:count])
    return dict(zip(keys, step.change_amounts[:count]))


def fresh_of(step):
    """{counter: {token: count}}"""
    starts = step.fresh_starts[: step.num_fresh + 1]
    return {
        step.fresh_counters[i]: dict(
            zip(step.fresh_tokens[starts[i] : starts[i + 1]], step.fresh_counts[starts[i] :])
        )
        for i in range(step.num_fresh)
    }


def running(seq, counter):
    """A sequence that the scheduler has admitted."""
    seq.counter, seq.is_counted = counter, False
    return seq


def test_tokens_of_all_sequences_follow_one_another(writer, make_sequence):
    long = with_blocks(make_sequence(range(10, 20)), [7, 3, 5])
    short = with_blocks(make_sequence([1, 2]), [9])
    cut = with_blocks(make_sequence(range(30, 40)), [1, 2])
    step = writer.write([Chunk(long, 3, 10, 1), Chunk(short, 1, 2, 1), Chunk(cut, 0, 5, 0)])
    assert (step.num_tokens, step.num_sequences, step.num_rows) == (13, 3, 2)
    assert step.token_ids[:13].tolist() == [*range(13, 20), 2, *range(30, 35)]
    assert step.positions[:13].tolist() == [*range(3, 10), 1, *range(5)]
    slots = [31, 12, 13, 14, 15, 20, 21, 37, 4, 5, 6, 7, 8]
    assert step.slots[:13].tolist() == slots
    assert step.context_lens[:3].tolist() == [10, 2, 5]
    assert step.query_starts[:4].tolist() == [0, 7, 8, 13]
    assert step.rows[:2].tolist() == [6, 7]
    width = step.layout.size.blocks
    assert step.block_tables[:3].tolist() == [7, 3, 5]
    assert step.block_tables[width] == 9
    assert step.block_tables[2 * width : 2 * width + 2].tolist() == [1, 2]


def test_the_last_tokens_of_a_chunk_may_all_be_sampled(writer, make_sequence):
    seq = with_blocks(make_sequence(range(8)), [0, 1])
    step = writer.write([sampled(make_sequence([1])), Chunk(seq, 2, 8, 3)])
    assert step.rows[: step.num_rows].tolist() == [0, 4, 5, 6]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), min_size=1, max_size=20))
def test_every_token_has_its_own_slot(spans):
    from vllm.engine.sequence import Sequence

    chunks, first = [], 0
    for start, count in spans:
        seq = Sequence(0, range(start + count), SamplingParams(), max_tokens=1)
        blocks = -(-seq.num_tokens // BLOCK_SIZE)
        with_blocks(seq, range(first, first + blocks))
        first += blocks
        chunks.append(Chunk(seq, start, start + count, 1))
    step = StepWriter(Memory(), VOCAB).write(chunks)
    expected = [
        seq.block_table[at // BLOCK_SIZE] * BLOCK_SIZE + at % BLOCK_SIZE
        for seq, start, end, *_ in chunks
        for at in range(start, end)
    ]
    assert step.slots[: step.num_tokens].tolist() == expected


def test_buffers_are_used_in_turns_and_stay(writer, make_sequence):
    chunks = [sampled(make_sequence([5]))]
    steps = [writer.write(chunks) for _ in range(4)]
    assert steps[0] is steps[2] is not steps[1] is steps[3]
    assert steps[0].memory is not steps[1].memory
    steps[1].token_ids[0] = 7
    assert steps[0].token_ids[0] == 5


def test_a_larger_step_gets_larger_memory_and_the_old_one_is_described_anew(writer, make_sequence):
    small, large = [sampled(make_sequence([5]))], make_sequence(range(5000))
    for _ in range(3):
        assert writer.write(small).token_ids[0] == 5
        with_blocks(large, range(1250))
        step = writer.write([Chunk(large, 0, 5000, 1)])
        assert step.token_ids[:5000].tolist() == list(range(5000))
        assert step.layout.nbytes <= len(step.memory)


def test_nothing_of_the_step_before_is_left(writer, make_sequence):
    busy = make_sequence(
        [1, 2],
        repetition_penalty=1.5,
        top_k=3,
        logprobs=2,
        prompt_logprobs=1,
        min_tokens=1,
        stop_token_ids=[7],
    )
    for _ in range(2):
        running(busy, 3)
        step = writer.write([Chunk(with_blocks(busy, [0]), 0, 2, 1)])
        assert step.uses_top_k
        assert step.uses_penalties
        assert [step.num_fresh, step.num_changes] == [1, 1]
        assert step.logprobs == [(0, 2)]
        assert step.prompt_logprobs == [(0, 0, [2], 1)]
    for _ in range(2):
        step = writer.write([sampled(make_sequence([1, 2], temperature=0))])
        assert [step.uses_temperatures, step.uses_top_k, step.uses_penalties] == [False] * 3
        assert [step.num_fresh, step.num_changes] == [0, 0]
        assert [step.logprobs, step.prompt_logprobs] == [[], []]


def test_greedy_rows_need_nothing(writer, make_sequence):
    step = writer.write([sampled(make_sequence([1], temperature=0)) for _ in range(3)])
    assert not step.uses_temperatures
    assert step.num_changes == 0


def test_only_what_somebody_asks_for_is_used(writer, make_sequence):
    greedy, plain = make_sequence([1], temperature=0), make_sequence([1], temperature=0.5)
    cut = make_sequence([1], top_k=7, top_p=0.5, seed=3)
    step = writer.write([sampled(greedy), sampled(plain)])
    assert step.temperatures[:2].tolist() == [0.0, 0.5]
    assert (step.uses_top_k, step.uses_top_p, step.uses_min_p) == (False, False, False)
    step = writer.write([sampled(cut), sampled(greedy), sampled(plain)])
    assert step.temperatures[:3].tolist() == [1.0, 0.0, 0.5]
    assert step.seeds[:3].tolist() == [cut.seed, greedy.seed, plain.seed]
    assert step.top_k[:3].tolist() == [7, 0, 0]
    assert step.top_p[:3].tolist() == [0.5, 1.0, 1.0]
    assert (step.uses_top_k, step.uses_top_p, step.uses_min_p) == (True, True, False)


@pytest.mark.parametrize("top_k", [-1, 0, VOCAB, VOCAB + 1])
def test_a_top_k_of_everything_is_none(writer, make_sequence, top_k):
    assert not writer.write([sampled(make_sequence([1], top_k=top_k))]).uses_top_k


def test_draws_count_tokens_of_the_output(writer, make_sequence):
    seqs = [make_sequence([1]), make_sequence([1, 2])]
    assert writer.write([sampled(seq) for seq in seqs]).draws[:2].tolist() == [0, 0]
    seqs[1].append(5)
    assert writer.write([sampled(seq) for seq in seqs]).draws[:2].tolist() == [0, 1]
    assert writer.write([sampled(seqs[1])]).draws[0] == 1


def test_what_a_sequence_has_is_said_once(writer, make_sequence):
    """Behind that, each step counts the token that it comes from."""
    penalties = {"repetition_penalty": 1.5, "presence_penalty": 0.25, "frequency_penalty": 0.5}
    seq = running(make_sequence([1, 2, 4, 1], **penalties), 6)
    plain = make_sequence([9])
    step = writer.write([sampled(plain), sampled(seq)])
    assert fresh_of(step) == {6: {1: 0, 2: 0, 4: 0}}  # the last token is counted by the step
    assert step.counters[:2].tolist() == [-1, 6]
    assert step.counts[1] == 0
    assert [step.repetition[1], step.presence[1], step.frequency[1]] == [1.5, 0.25, 0.5]
    seq.append(2)
    with_blocks(seq, [0, 1])
    step = writer.write([sampled(seq), sampled(plain)])
    assert step.num_fresh == 0
    assert step.counters[:2].tolist() == [6, -1]
    assert step.counts[0] == 1


def test_a_prompt_of_one_token_has_nothing_before_it(writer, make_sequence):
    step = writer.write([sampled(running(make_sequence([3], repetition_penalty=1.5), 2))])
    assert fresh_of(step) == {2: {}}
    assert step.counts[0] == 0


def test_a_sequence_that_was_preempted_says_it_again(writer, make_sequence):
    seq = running(make_sequence([1, 2], repetition_penalty=1.5), 0)
    writer.write([sampled(seq)])
    for token in (2, 3, 3):
        seq.append(token)
    with_blocks(running(seq, 5), [0, 1])
    step = writer.write([sampled(seq)])
    assert fresh_of(step) == {5: {1: 0, 2: 1, 3: 1}}
    assert step.counts[0] == 1  # the second 3


def test_ends_are_forbidden_until_min_tokens(writer, make_sequence):
    seq = make_sequence([1, 4], eos_token_ids=[4], stop_token_ids=[6], min_tokens=1)
    forbidden = -float("inf")
    assert changes_of(writer.write([sampled(make_sequence([1])), sampled(seq)])) == {
        (1, 4, -1): forbidden,
        (1, 6, -1): forbidden,
    }
    seq.append(1)
    assert changes_of(writer.write([sampled(seq)])) == {}
