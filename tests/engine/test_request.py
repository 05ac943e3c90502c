"""The text of a continuation: the same however it is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.text.kinds import KINDS
from vllm.engine.request import Continuation
from vllm.engine.sequence import Sequence
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.text.tokenizer import Tokenizer

FINAL, DELTA = RequestOutputKind.FINAL_ONLY, RequestOutputKind.DELTA


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    loaded = {}
    for kind, backend in KINDS.items():
        folder = tmp_path_factory.mktemp(kind)
        backend.save(str(folder / "tokenizer.json"))
        # What transformers does to a text afterwards; the tokenizer's file decides here.
        config = '{"clean_up_tokenization_spaces": true}'
        (folder / "tokenizer_config.json").write_text(config)
        loaded[kind] = Tokenizer(folder)
    return loaded


def told(tokenizer, prompt, ids, reads=None, **params):
    """All text of a continuation with these tokens, whose outputs are looked at after `reads`."""
    params = SamplingParams(max_tokens=len(ids), temperature=0, **params)
    seq = Sequence(0, prompt, params, max_tokens=len(ids))
    continuation = Continuation(0, seq, tokenizer)
    text = ""
    for index, token in enumerate(ids):
        seq.append(token)
        continuation.take(None)
        if reads is not None and (index in reads or seq.finish_reason):
            output = continuation.output()
            text += output.text if output else ""
    return text if reads is not None else continuation.output().text


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_text_is_the_same_at_once_streamed_and_searched(tokenizers, kind, data):
    tokenizer = tokenizers[kind]
    token = st.integers(0, tokenizer.vocab_size - 1)
    prompt = data.draw(st.lists(token, min_size=1, max_size=4))
    ids = data.draw(st.lists(token, min_size=1, max_size=20))
    at_once = told(tokenizer, prompt, ids, output_kind=FINAL)
    assert told(tokenizer, prompt, ids, output_kind=FINAL, stop="not in there") == at_once
    reads = data.draw(st.sets(st.integers(0, len(ids))))
    assert told(tokenizer, prompt, ids, reads, output_kind=DELTA) == at_once
    assert told(tokenizer, prompt, ids, reads, output_kind=DELTA, stop="not in there") == at_once


def test_a_run_of_byte_tokens_that_ends_badly(tokenizers):
    tokenizer, backend = tokenizers["byte_fallback"], KINDS["byte_fallback"]
    ids = [backend.token_to_id(f"<0x{byte:02X}>") for byte in b"\xf0\x92\x8d\x85\xe1\x9a"]
    prompt = tokenizer.encode("a")
    for kwargs in ({"output_kind": FINAL}, {"output_kind": FINAL, "stop": "x"}):
        assert told(tokenizer, prompt, ids, **kwargs) == "𒍅\ufffd\ufffd"
    assert told(tokenizer, prompt, ids, range(6), output_kind=DELTA) == "𒍅\ufffd\ufffd"
    assert tokenizer.decode(ids) == "𒍅\ufffd\ufffd"
