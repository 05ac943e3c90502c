"""The grammar masks of a step: their content, and which rows have one."""

from __future__ import annotations

import pytest

from vllm.engine.constraints import Constraints
from vllm.engine.masks import MaskedRow, MaskMaker
from vllm.engine.sequence import SequenceStatus
from vllm.sampling_params import SamplingParams

VOCAB = 75


@pytest.fixture
def row_of(make_sequence):
    """row_of(row, tokens): which may come there."""

    def make(row, token_ids):
        params = SamplingParams(allowed_token_ids=token_ids)
        return MaskedRow(row, make_sequence([1]), Constraints(params, [], None, VOCAB))

    return make


def allowed(masks):
    """{row: tokens}"""
    rows = masks.memory[: 8 * len(masks.rows)].cast("q").tolist()
    assert rows == masks.rows
    words = masks.memory[masks.bits_offset : masks.nbytes].cast("I").tolist()
    found = {}
    for place, row in enumerate(rows):
        own = words[place * masks.num_words : (place + 1) * masks.num_words]
        found[row] = [token for token in range(96) if own[token // 32] >> token % 32 & 1]
    return found


@pytest.fixture
def maker():
    return MaskMaker(VOCAB, lambda nbytes: memoryview(bytearray(nbytes)))


def test_each_row_has_its_own(maker, row_of):
    wanted = {3: [0, 31, 32, 74], 0: [5], 7: list(range(VOCAB))}
    masks = maker.masks([row_of(row, tokens) for row, tokens in wanted.items()])
    assert masks.fill() == []
    assert allowed(masks) == wanted
    assert masks.bits_offset % 16 == 0


def test_no_rows_have_none(maker):
    assert maker.masks([]) is None


def test_who_has_ended_since_gets_none(maker, row_of):
    rows = [row_of(row, [row]) for row in range(3)]
    masks = maker.masks(rows)
    rows[1].seq.status = SequenceStatus.FINISHED
    masks.fill()
    assert allowed(masks) == {0: [0], 2: [2]}
    for row in rows:
        row.seq.status = SequenceStatus.FINISHED
    masks.fill()
    assert (allowed(masks), masks.nbytes) == ({}, 0)


def test_no_row_has_one_until_all_are_made(maker, row_of):
    """Should something interrupt, no row is named whose mask is not there."""
    good, broken = row_of(0, [1]), row_of(1, [1])
    broken.constraints.allowed = b"too short"
    masks = maker.masks([good, broken])
    with pytest.raises(ValueError, match="structures"):
        masks.fill()
    assert (masks.rows, masks.nbytes) == ([], 0)


class TestGrammars:
    @pytest.fixture
    def sequences(self, chat_model):
        """sequences(count, **parameters), of the tokenizer's "a", "b" and "c"."""
        pytest.importorskip("llguidance", reason="llguidance makes the masks of grammars")
        from vllm.config import GenerationDefaults, ModelConfig
        from vllm.engine.request_maker import RequestMaker
        from vllm.text.tokenizer import Tokenizer

        folder = chat_model.folder
        config, tokenizer = ModelConfig.read(folder), Tokenizer(folder)
        made = RequestMaker(config, GenerationDefaults.read(folder), tokenizer, 160)
        self.letters = [tokenizer.encode(text, add_special_tokens=False)[0] for text in "abc"]
        self.vocab_size = config.vocab_size

        def make(count, **how):
            params = SamplingParams(**how)
            return made.sequences(range(count), [1], params, [0] * count)

        return make

    def fill(self, seqs):
        """What of the letters may come, by row; and whose grammars failed."""
        maker = MaskMaker(self.vocab_size, lambda nbytes: memoryview(bytearray(nbytes)))
        masks = maker.masks([MaskedRow(2 * i, seq, seq.constraints) for i, seq in enumerate(seqs)])
        failed = masks.fill()
        words = masks.num_words
        bits = masks.memory[masks.bits_offset : masks.nbytes].cast("I").tolist()
        found = {
            row: "".join(
                letter
                for letter, token in zip("abc", self.letters)
                if bits[place * words + token // 32] >> token % 32 & 1
            )
            for place, row in enumerate(masks.rows)
            if row >= 0
        }
        return found, failed

    def test_a_grammar_and_allowed_tokens_both_hold(self, sequences):
        (free,) = sequences(1, structured_outputs={"regex": "[ab]"})
        tokens = self.letters[1:]
        held = sequences(2, structured_outputs={"regex": "[ab]+"}, allowed_token_ids=tokens)
        assert self.fill([held[0], free, held[1]]) == ({0: "b", 2: "ab", 4: "b"}, [])

    def test_they_follow_from_what_has_been_said_when_they_are_made(self, sequences):
        one, other = sequences(2, structured_outputs={"regex": "[ab]c"})
        one.append(self.letters[0])
        assert self.fill([one, other]) == ({0: "c", 2: "ab"}, [])

    def test_a_grammar_that_has_failed_has_none(self, sequences):
        first, broken, last = sequences(3, structured_outputs={"regex": "[ab]c"})
        broken.constraints.grammar.matcher.consume_token(self.letters[2])
        found, failed = self.fill([first, broken, last])
        assert found == {0: "ab", 4: "ab"}
        assert [seq for seq, _ in failed] == [broken]
        assert "the grammar gave up: Parser Error" in str(failed[0].error)
