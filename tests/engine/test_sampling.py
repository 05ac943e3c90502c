"""From sequences to the sampler's tensors."""

from __future__ import annotations

import pytest
import torch

from vllm.engine.sampling import SamplingTensorBuilder

VOCAB = 50
CPU = torch.device("cpu")


@pytest.fixture
def builder():
    return SamplingTensorBuilder(VOCAB, CPU)


def changes_of(tensors):
    """{(row, token): (repetition, subtract)}"""
    changes = tensors.changes
    keys = zip(changes.rows.tolist(), changes.tokens.tolist())
    return dict(zip(keys, zip(changes.repetition.tolist(), changes.subtract.tolist())))


def test_greedy_rows_need_nothing(builder, make_sequence):
    tensors = builder.build([make_sequence([1], temperature=0) for _ in range(3)])
    assert tensors.temperatures is None
    assert tensors.changes is None


def test_only_what_somebody_asks_for_becomes_a_tensor(builder, make_sequence):
    greedy, plain = make_sequence([1], temperature=0), make_sequence([1], temperature=0.5)
    cut = make_sequence([1], top_k=7, top_p=0.5, seed=3)
    tensors = builder.build([greedy, plain])
    assert tensors.temperatures.tolist() == [0.0, 0.5]
    assert (tensors.top_k, tensors.top_p, tensors.min_p) == (None, None, None)
    tensors = builder.build([cut, greedy, plain])
    assert tensors.temperatures.tolist() == [1.0, 0.0, 0.5]
    assert tensors.seeds.tolist() == [cut.seed, greedy.seed, plain.seed]
    assert tensors.top_k.tolist() == [7, 0, 0]
    assert tensors.top_p.tolist() == [0.5, 1.0, 1.0]
    assert tensors.min_p is None


@pytest.mark.parametrize("top_k", [-1, 0, VOCAB, VOCAB + 1])
def test_a_top_k_of_everything_is_none(builder, make_sequence, top_k):
    assert builder.build([make_sequence([1], top_k=top_k)]).top_k is None


def test_draws_count_on_while_the_batch_stays(builder, make_sequence):
    seqs = [make_sequence([1]), make_sequence([1, 2])]
    assert builder.build(seqs).draws.tolist() == [0, 0]
    seqs[1].append(5)
    assert builder.build(seqs).draws.tolist() == [0, 1]
    assert builder.build(seqs[1:]).draws.tolist() == [1]


def test_penalties_tell_prompt_from_output(builder, make_sequence):
    seq = make_sequence(
        [1, 2], repetition_penalty=1.5, presence_penalty=0.25, frequency_penalty=0.5
    )
    for token in (2, 3, 3):
        seq.append(token)
    tensors = builder.build([make_sequence([9]), seq])
    assert changes_of(tensors) == {
        (1, 1): (1.5, 0.0),
        (1, 2): (1.5, 0.75),
        (1, 3): (1.5, 1.25),
    }


def test_ends_are_forbidden_until_min_tokens(builder, make_sequence):
    seq = make_sequence(
        [1, 4], eos_token_ids=[4], stop_token_ids=[6], min_tokens=1, repetition_penalty=2.0
    )
    forbidden = (2.0, float("inf"))
    # Token 4 is also penalised, for the prompt has it: one change per token, and this one wins.
    assert changes_of(builder.build([seq])) == {
        (0, 1): (2.0, 0.0),
        (0, 4): forbidden,
        (0, 6): forbidden,
    }
    seq.append(1)
    assert changes_of(builder.build([seq])) == {(0, 1): (2.0, 0.0), (0, 4): (2.0, 0.0)}
