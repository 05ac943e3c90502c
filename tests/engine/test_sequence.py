"""When a sequence ends, and why."""

from __future__ import annotations

import pytest

EOS = 7


@pytest.mark.parametrize(
    ("params", "tokens", "reason", "stop_reason"),
    [
        ({}, [1, 2, 3], "length", None),
        ({}, [1, EOS], "stop", None),
        ({"ignore_eos": True}, [1, EOS, 2], "length", None),
        ({"stop_token_ids": [5]}, [1, 5], "stop", 5),
        ({"stop_token_ids": [EOS]}, [EOS], "stop", None),
        ({"stop_token_ids": [EOS], "ignore_eos": True}, [EOS], "stop", EOS),
        ({"stop_token_ids": [5], "ignore_eos": True}, [EOS, 5], "stop", 5),
        ({}, [1, 2, EOS], "stop", None),  # end of sequence wins over the length
        ({"min_tokens": 2}, [EOS, EOS, EOS], "stop", None),
        ({"min_tokens": 1, "stop_token_ids": [5]}, [5, 5], "stop", 5),
    ],
)
def test_sequence_ends_at_the_first_of_its_conditions(
    make_sequence, params, tokens, reason, stop_reason
):
    seq = make_sequence([1, 2], max_tokens=3, eos_token_ids=[EOS], **params)
    for token in tokens[:-1]:
        seq.append(token)
        assert seq.finish_reason is None
    seq.append(tokens[-1])
    assert seq.finish_reason == reason
    assert seq.stop_reason == stop_reason
    assert seq.output_token_ids == tokens


def test_ending_token_ids_follow_ignore_eos(make_sequence):
    def ending(**params):
        return make_sequence([1], eos_token_ids=[EOS], **params).ending_token_ids()

    assert ending(stop_token_ids=[5]) == {5, EOS}
    assert ending(stop_token_ids=[5], ignore_eos=True) == {5}
