"""Constraints on outputs: biases, bad words, allowed tokens, grammars."""

from __future__ import annotations

import json
import re

import pytest

from vllm import LLM, SamplingParams
from vllm.engine.constraints import FORBIDDEN, Bias, Constraints, encode_bad_words
from vllm.sampling_params import StructuredOutputsParams

PROMPT = "the cat and the dog"


@pytest.fixture(scope="module", params=[False, True], ids=["in turns", "overlapping"])
def llm(chat_model, request):
    """Also where the next step is described before the token of this one is known."""
    return LLM(str(chat_model.folder), num_kv_blocks=64, async_scheduling=request.param)


def tokens(llm, prompt=PROMPT, **params):
    params = {"max_tokens": 30, "ignore_eos": True, "seed": 1, **params}
    outputs = llm.generate(prompt, SamplingParams(**params))[0].outputs
    return [output.token_ids for output in outputs]


@pytest.mark.parametrize("penalties", [{}, {"repetition_penalty": 1.5, "presence_penalty": 0.7}])
def test_a_bias_decides_what_is_drawn(llm, penalties):
    (plain,) = tokens(llm, temperature=0, max_tokens=1)
    assert tokens(llm, temperature=0, max_tokens=4, logit_bias={9: 100}, **penalties) == [[9] * 4]
    (other,) = tokens(llm, temperature=0, logit_bias={plain[0]: -100}, **penalties)
    assert plain[0] not in other
    # A small one changes what is drawn by as much as it says.
    first = llm.generate(PROMPT, SamplingParams(temperature=0, max_tokens=1, logprobs=2))[0]
    best, second = sorted(first.outputs[0].logprobs[0].items(), key=lambda item: item[1].rank)[:2]
    gap = best[1].logprob - second[1].logprob
    for factor, expected in ((0.98, best[0]), (1.02, second[0])):
        bias = {str(second[0]): gap * factor}
        assert tokens(llm, temperature=0, max_tokens=1, logit_bias=bias) == [[expected]]


def test_allowed_tokens_alone_are_drawn(llm):
    allowed = [5, 64, 65, 319]
    found = tokens(llm, n=3, temperature=5.0, allowed_token_ids=allowed)
    assert {token for output in found for token in output} == set(allowed)


def test_bad_words_are_never_completed(llm):
    """Also where they take several tokens: all but the last may come."""
    (plain,) = tokens(llm, temperature=0)
    pair = tuple(plain[3:5])
    params = SamplingParams()
    constraints = Constraints(params, [pair, (7,)], None, 320)
    always, behind = Bias(7, FORBIDDEN), Bias(pair[1], FORBIDDEN, after=pair[0])
    # Where the first of the pair may have come; what it is need not be known.
    assert constraints.biases(plain[:3], 0, 4) == [behind, always]
    assert constraints.biases(plain[:3], 3, 3) == [always]
    three = Constraints(params, [(1, 2, 3)], None, 320)
    assert three.biases([9, 1], 1, 3) == [Bias(3, FORBIDDEN, after=2)]
    assert three.biases([9, 1], 2, 3) == []  # the first is one of the prompt
    assert three.biases([9, 2], 1, 3) == []
    ids = encode_bad_words(["the"], llm.engine.tokenizer)
    assert ids == [
        tuple(llm.engine.tokenizer.encode(text, add_special_tokens=False))
        for text in ("the", " the")
    ]
    words = ["a", "t", "sat", "8"]
    with_words = tokens(llm, n=4, max_tokens=60, seed=2)
    without = tokens(llm, n=4, max_tokens=60, seed=2, bad_words=words)
    bad = encode_bad_words(words, llm.engine.tokenizer)

    def said(outputs):
        return {
            each
            for each in bad
            for output in outputs
            for at in range(len(output))
            if tuple(output[at : at + len(each)]) == each
        }

    assert said(with_words)
    assert not said(without)


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "tags": {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 2},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


class TestStructuredOutputs:
    @pytest.fixture(autouse=True)
    def _llguidance(self):
        pytest.importorskip("llguidance")

    def texts(self, llm, n=4, **wanted):
        """Finished outputs of a model that knows no better."""
        params = SamplingParams(
            n=n, temperature=1.0, seed=3, max_tokens=140, structured_outputs=wanted
        )
        outputs = llm.generate(PROMPT, params)[0].outputs
        return [output.text for output in outputs if output.finish_reason == "stop"]

    def test_json_by_a_schema(self, llm):
        texts = self.texts(llm, n=8, json=SCHEMA)
        assert texts
        for text in texts:
            value = json.loads(text)
            assert set(value) <= set(SCHEMA["properties"])
            assert 0 <= value["age"] <= 99
            assert set(value.get("tags", [])) <= {"x", "y"}

    def test_choices(self, llm):
        assert set(self.texts(llm, n=12, choice=["red", "green", "reddish"])) <= {
            "red",
            "green",
            "reddish",
        }

    def test_a_regular_expression(self, llm):
        texts = self.texts(llm, regex=r"[a-c]{3}-\d{2}")
        assert len(texts) == 4
        assert all(re.fullmatch(r"[a-c]{3}-\d{2}", text) for text in texts)

    def test_a_grammar(self, llm):
        texts = self.texts(llm, grammar='start: "(" inner ")"\ninner: "a" | "b" inner')
        assert texts
        assert all(re.fullmatch(r"\(b*a\)", text) for text in texts)

    def test_any_object(self, llm):
        params = SamplingParams(
            temperature=0,
            max_tokens=12,
            structured_outputs=StructuredOutputsParams(json_object=True),
        )
        assert llm.generate(PROMPT, params)[0].outputs[0].text.startswith("{")

    def test_beside_others_and_with_allowed_tokens(self, llm):
        """In one batch with a request that is free; the mask is of its row alone."""
        free = SamplingParams(temperature=0, max_tokens=10, ignore_eos=True)
        held = SamplingParams(temperature=0, max_tokens=10, structured_outputs={"regex": "[0-9]+"})
        both = llm.generate([PROMPT, PROMPT], [free, held])
        assert both[0].outputs[0].token_ids == tokens(llm, temperature=0, max_tokens=10)[0]
        assert both[1].outputs[0].text.isdigit()
        three = llm.engine.tokenizer.encode("3", add_special_tokens=False)
        params = SamplingParams(
            max_tokens=5, structured_outputs={"regex": "[0-9]{5}"}, allowed_token_ids=three
        )
        assert llm.generate(PROMPT, params)[0].outputs[0].text == "33333"

    @pytest.mark.parametrize(
        ("wanted", "message"),
        [
            ({"json": {"type": "nonsense"}}, "structured_outputs: Invalid type: nonsense"),
            ({"regex": "[a-"}, "structured_outputs: "),
            ({"grammar": "start: other"}, "structured_outputs: "),
        ],
    )
    def test_what_is_no_grammar(self, llm, wanted, message):
        params = SamplingParams(structured_outputs=wanted)
        with pytest.raises(ValueError, match=re.escape(f"prompt 0: {message}")):
            llm.generate(PROMPT, params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"logit_bias": {1: 101}}, "logit_bias must be a mapping of token ids to numbers in"),
        ({"logit_bias": [1]}, "logit_bias must be a mapping of token ids to numbers in"),
        ({"bad_words": [""]}, "bad_words must be a non-empty string, or several, got"),
        ({"allowed_token_ids": [-1]}, "allowed_token_ids must be token ids, each an integer"),
        ({"structured_outputs": {}}, "structured_outputs must have one of json, regex, choice"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice must be non-empty"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json is not JSON: "),
        (
            {"structured_outputs": {"regex": "a", "choice": ["b"]}},
            "structured_outputs must have one of json, regex, choice, grammar, json_object, got",
        ),
        ({"structured_outputs": {"regex": "a"}, "min_tokens": 2}, "min_tokens must be 0 with"),
    ],
)
def test_refused_by_name(params, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        SamplingParams(**params)


def test_ids_outside_of_the_vocabulary(llm):
    for params in ({"logit_bias": {320: 1}}, {"allowed_token_ids": [320]}):
        (name,) = params
        with pytest.raises(ValueError, match=rf"{name} must be in \[0, 320\), got \[320\]"):
            llm.generate(PROMPT, SamplingParams(**params))


def test_without_llguidance(llm, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ValueError, match="structured_outputs needs llguidance, which this Python"):
        llm.generate(PROMPT, SamplingParams(structured_outputs={"regex": "a"}))
