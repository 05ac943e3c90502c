"""The masks of a step: what they hold, when they are there, and what became of errors."""

from __future__ import annotations

import pytest

from vllm.engine.constraints import Constraints
from vllm.engine.masks import MaskMaker
from vllm.sampling_params import SamplingParams

VOCAB = 75


def constraints(*token_ids):
    return Constraints(SamplingParams(allowed_token_ids=token_ids), [], None, VOCAB)


def allowed(masks):
    """{row: tokens}"""
    masks.wait()
    rows = masks.memory[: 8 * len(masks.rows)].cast("q").tolist()
    words = masks.memory[masks.bits_offset : masks.nbytes].cast("I").tolist()
    found = {}
    for place, row in enumerate(rows):
        own = words[place * masks.num_words : (place + 1) * masks.num_words]
        found[row] = [token for token in range(96) if own[token // 32] >> token % 32 & 1]
    return found


def maker():
    return MaskMaker(VOCAB, lambda nbytes: memoryview(bytearray(nbytes)))


def test_each_row_has_its_own():
    wanted = {3: [0, 31, 32, 74], 0: [5], 7: list(range(VOCAB))}
    masks = maker().start([(row, constraints(*ids)) for row, ids in wanted.items()])
    assert allowed(masks) == wanted
    assert masks.bits_offset % 16 == 0


def test_no_rows_have_none():
    assert maker().start([]) is None


def test_a_step_is_described_while_the_masks_of_the_last_are_read():
    made = maker()
    first = made.start([(0, constraints(1))])
    second = made.start([(0, constraints(2)), (1, constraints(3))])
    assert allowed(second) == {0: [2], 1: [3]}
    assert allowed(first) == {0: [1]}


def test_an_error_is_raised_where_masks_are_waited_for():
    broken = constraints(1)
    broken.allowed = b"too short"
    masks = maker().start([(0, broken)])
    with pytest.raises(ValueError, match="structures"):
        masks.wait()


def test_grammars_and_allowed_tokens_both_hold(chat_model):
    pytest.importorskip("llguidance")
    from vllm.config import GenerationDefaults, ModelConfig
    from vllm.engine.request_maker import RequestMaker
    from vllm.text.tokenizer import Tokenizer

    folder = chat_model.folder
    config = ModelConfig.read(folder)
    tokenizer = Tokenizer(folder)
    made = RequestMaker(config, GenerationDefaults.read(folder), tokenizer, 160)
    a, b, c = (tokenizer.encode(text, add_special_tokens=False)[0] for text in "abc")
    params = SamplingParams(structured_outputs={"regex": "[ab]+"}, allowed_token_ids=[b, c])
    one, other = made.sequences([0, 1], [1], params, [0, 0])
    free = made.sequences([2], [1], SamplingParams(structured_outputs={"regex": "[ab]"}), [0])
    masks = MaskMaker(config.vocab_size, lambda nbytes: memoryview(bytearray(nbytes))).start(
        [(4, one.constraints), (2, free[0].constraints), (1, other.constraints)]
    )
    words = masks.num_words
    masks.wait()
    bits = masks.memory[masks.bits_offset : masks.nbytes].cast("I").tolist()
    found = [
        {token for token in (a, b, c) if bits[place * words + token // 32] >> token % 32 & 1}
        for place in range(3)
    ]
    assert found == [{b}, {a, b}, {b}]
