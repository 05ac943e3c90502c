"""Text that comes in pieces: the same as all at once, and never part of a character."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from vllm.text.detokenizer import IncrementalDetokenizer, StopStrings

TEXTS = st.text(st.sampled_from("ab c\n.é漢字👩🏽‍🚀😀\u0301"), max_size=30)


def byte_level():
    """Every byte is a token, and some pairs: characters are split between tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["ab ab cab é 漢漢 😀😀"] * 4, trainer)
    return tokenizer


def byte_fallback():
    """As Llama 2: spaces belong to words, unknown characters are byte tokens."""
    vocab = {"<unk>": 0, "</s>": 1}
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    for piece in ["▁", "a", "b", "c", ".", "▁a", "ab", "▁ab", "é"]:
        vocab[piece] = len(vocab)
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b")]
    tokenizer = Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


TOKENIZERS = {"byte level": byte_level(), "byte fallback": byte_fallback()}


def pieces_of(tokenizer, ids, prompt=()):
    detokenizer = IncrementalDetokenizer(tokenizer.decode, prompt)
    pieces = [detokenizer.append([token]) for token in ids]
    pieces.append(detokenizer.flush())
    assert "".join(pieces) == detokenizer.text
    return pieces


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_pieces_add_up_to_the_text_in_whole_characters(kind, text):
    tokenizer = TOKENIZERS[kind]
    ids = tokenizer.encode(text).ids
    pieces = pieces_of(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids)
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=150, deadline=None)
@given(prompt=TEXTS, text=TEXTS)
def test_text_behind_a_prompt_keeps_its_spaces(kind, prompt, text):
    tokenizer = TOKENIZERS[kind]
    before, after = tokenizer.encode("a" + prompt).ids, tokenizer.encode(text).ids
    told = "".join(pieces_of(tokenizer, after, before))
    assert tokenizer.decode(before) + told == tokenizer.decode(before + after)


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, data=st.data())
def test_a_character_that_the_prompt_begins_belongs_to_the_output(text, data):
    tokenizer = TOKENIZERS["byte level"]
    ids = tokenizer.encode(text).ids
    cut = data.draw(st.integers(0, len(ids)))
    told = "".join(pieces_of(tokenizer, ids[cut:], ids[:cut]))
    assert tokenizer.decode(ids[:cut]).rstrip("\ufffd") + told == text


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(1, 299), max_size=60))
def test_any_bytes_at_all_come_out_as_decoded_at_once(ids):
    tokenizer = TOKENIZERS["byte level"]
    ids = [token for token in ids if token < tokenizer.get_vocab_size()]
    assert "".join(pieces_of(tokenizer, ids)) == tokenizer.decode(ids)


def test_a_long_run_of_wrong_bytes_is_not_held_for_ever():
    tokenizer = TOKENIZERS["byte level"]
    wrong = tokenizer.token_to_id("ÿ")  # stands for byte 0xFF, which is in no character
    pieces = pieces_of(tokenizer, [wrong] * 100)
    assert "".join(pieces) == "\ufffd" * 100
    assert max(map(len, pieces)) <= 6


def test_tokens_at_once_and_one_by_one_are_the_same():
    tokenizer = TOKENIZERS["byte fallback"]
    ids = tokenizer.encode("ab 漢字 ab.").ids
    detokenizer = IncrementalDetokenizer(tokenizer.decode)
    at_once = detokenizer.append(ids) + detokenizer.flush()
    assert at_once == "".join(pieces_of(tokenizer, ids)) == "ab 漢字 ab."


def test_special_tokens_in_between_are_no_context():
    tokenizer = TOKENIZERS["byte fallback"]
    ab, end = tokenizer.token_to_id("▁ab"), tokenizer.token_to_id("</s>")
    assert pieces_of(tokenizer, [ab, end, end, ab]) == ["ab", "", "", " ab", ""]


@pytest.mark.parametrize(
    ("strings", "include", "text", "num_old", "expected"),
    [
        (["END"], False, "abcENDdef", 0, ("END", "abc")),
        (["END"], True, "abcENDdef", 0, ("END", "abcEND")),
        (["def", "c"], False, "abcdef", 0, ("c", "ab")),  # the first in the text, not the list
        (["x"], False, "abc", 0, None),
        (["bc"], False, "abcd", 2, ("bc", "a")),  # it ends in what is new
        (["ab"], False, "abcd", 2, None),  # it was there before, when it did not count
        ([], False, "abc", 0, None),
    ],
)
def test_stop_strings(strings, include, text, num_old, expected):
    assert StopStrings(strings, include=include).find(text, num_old) == expected


@pytest.mark.parametrize(
    ("strings", "text", "safe"),
    [
        (["END"], "abc", 3),
        (["END"], "abcE", 3),
        (["END"], "abcEN", 3),
        (["END", "cEX"], "abcE", 2),
        (["aab"], "aaa", 1),
        (["x"], "abc", 3),
        ([], "abc", 3),
    ],
)
def test_text_that_may_become_a_stop_string_is_held_back(strings, text, safe):
    assert StopStrings(strings, include=False).num_safe(text) == safe
