"""Every field's range, at its edges; contradictions; and that the errors name the field."""

from __future__ import annotations

import dataclasses

import pytest

from vllm.sampling_params import RequestOutputKind, SamplingParams


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("n", [1, 16], [0, -1, 1.5, True, "2", None]),
        ("presence_penalty", [-2, 0, 2.0], [-2.01, 2.01, float("nan"), "x", None]),
        ("frequency_penalty", [-2, 0, 2.0], [-2.01, 2.01, float("inf"), "x", None]),
        ("repetition_penalty", [0.01, 1, 10], [0, -1, 10.1, float("nan"), None]),
        (
            "temperature",
            [0, 1e-6, 2.5, 100],
            [-0.1, 101, float("inf"), float("nan"), "hot", 10**400],
        ),
        ("top_p", [0.01, 1], [0, -0.5, 1.01, float("nan"), None]),
        ("top_k", [-1, 0, 1, 50], [-2, 1.5, "5", True, None]),
        ("min_p", [0, 0.5, 1], [-0.01, 1.01, float("nan"), None]),
        ("seed", [None, 0, -5, 2**63 - 1], [2**63, 1.0, "s", True]),
        ("max_tokens", [None, 1, 10**6], [0, -1, 1.5, "3"]),
        ("min_tokens", [0, 16], [-1, 0.5, None]),
        ("logprobs", [None, 0, 256], [-1, 257, 1.0, True]),
        ("prompt_logprobs", [None, 0, 256], [-1, 257, 1.0, True]),
        ("stop", [None, "x", ["a", "b"], ()], ["", [""], [1], ["a", None], 5, {}, b"x"]),
        ("stop_token_ids", [None, [], [0, 5]], [[-1], ["a"], [1.0], [True], 5, "5", 0]),
        ("allowed_token_ids", [None, [0, 5]], [[-1], ["a"], [True], 5]),
        ("bad_words", [None, "x", ["a", "b"]], ["", [""], [1]]),
        (
            "logit_bias",
            [None, {}, {0: -100, "7": 100}],
            [[1], {-1: 1}, {"x": 1}, {"-1": 1}, {1: -100.5}, {1: 100.5}, {1: None}, {True: 1}],
        ),
        ("ignore_eos", [True, False], [1, None, "yes"]),
        ("detokenize", [True, False], [0, None]),
        ("skip_special_tokens", [True, False], [0, None]),
        ("include_stop_str_in_output", [True, False], [0, None]),
        ("output_kind", list(RequestOutputKind), ["delta", None]),
    ],
)
def test_ranges(field, good, bad):
    for value in good:
        SamplingParams(**{field: value})
    for value in bad:
        with pytest.raises(ValueError, match=f"^{field} must be .*, got "):
            SamplingParams(**{field: value})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"min_tokens": 17}, r"min_tokens must be at most max_tokens \(16\), got 17"),
        ({"temperature": 0, "n": 2}, "n must be 1 with temperature 0, got 2"),
        ({"stop": "x", "detokenize": False}, "stop must be empty with detokenize=False"),
    ],
)
def test_contradictions(params, message):
    with pytest.raises(ValueError, match=message):
        SamplingParams(**params)


def test_no_length_limit_allows_any_minimum():
    assert SamplingParams(max_tokens=None, min_tokens=10**6).max_tokens is None


def test_stop_is_normalised():
    params = SamplingParams(stop="end", stop_token_ids=[1, 2])
    assert params.stop_strings == ("end",)
    assert params.stop_ids == (1, 2)
    assert SamplingParams(stop=["a", "b"]).stop_strings == ("a", "b")
    assert SamplingParams().stop_strings == ()
    assert dataclasses.replace(params, temperature=0.5).stop_strings == ("end",)


def test_parameters_may_be_changed_within_their_ranges():
    params = SamplingParams()
    params.max_tokens, params.stop = 5, "end"
    assert params == SamplingParams(max_tokens=5, stop=["end"])
    with pytest.raises(ValueError, match=r"^temperature must be .*, got -1"):
        params.temperature = -1
    with pytest.raises(AttributeError, match="no sampling parameter 'max_token'"):
        params.max_token = 5
    params.min_tokens = 6
    with pytest.raises(ValueError, match=r"min_tokens must be at most max_tokens \(5\), got 6"):
        dataclasses.replace(params)  # as the engine does when it makes a request


def test_what_counts_as_greedy_and_as_penalised():
    assert SamplingParams(temperature=0).is_greedy
    assert not SamplingParams(temperature=0.01).is_greedy
    assert not SamplingParams().has_penalties
    for field in ("presence_penalty", "frequency_penalty", "repetition_penalty"):
        assert SamplingParams(**{field: 0.5}).has_penalties
