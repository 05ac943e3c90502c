"""Text that comes in pieces: the same as all at once, and never part of a character."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from tests.text.kinds import KINDS
from vllm.text.detokenizer import IncrementalDetokenizer, StopStrings
from vllm.text.token_bytes import TokenBytes

TOKEN_BYTES = {kind: TokenBytes(tokenizer) for kind, tokenizer in KINDS.items()}
# Those that give every text back, byte by byte if need be, but for a space before it.
LOSSLESS = ["byte_level", "byte_fallback", "byte_fallback_without_strip", "unigram_byte_fallback"]
TEXTS = st.text(st.sampled_from("ab c\n.é漢字👩🏽‍🚀😀\u0301\ufffd"), max_size=30)
REPLACEMENT = "\ufffd"

each_kind = pytest.mark.parametrize("kind", KINDS)
each_lossless = pytest.mark.parametrize("kind", LOSSLESS)
examples = settings(max_examples=60)


def ids_of(kind, **sizes):
    """Any tokens at all, and ids that have none."""
    return st.lists(st.integers(0, KINDS[kind].get_vocab_size() + 2), **sizes)


def pieces_of(kind, groups, prompt=(), **kwargs):
    """What each group of tokens adds, and what is left in the end."""
    detokenizer = IncrementalDetokenizer(TOKEN_BYTES[kind], prompt, **kwargs)
    pieces = [detokenizer.append(group) for group in groups]
    return [*pieces, detokenizer.flush()]


def text_of(kind, ids, prompt=(), **kwargs):
    return "".join(pieces_of(kind, [ids], prompt, **kwargs))


@each_kind
@examples
@given(data=st.data(), skip=st.booleans())
def test_grouping_changes_nothing(kind, data, skip):
    ids, prompt = data.draw(ids_of(kind, max_size=40)), data.draw(ids_of(kind, max_size=6))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=8)))
    groups = [ids[a:b] for a, b in zip([0, *cuts], [*cuts, len(ids)])]
    whole = text_of(kind, ids, prompt, skip_special_tokens=skip)
    for grouped in (groups, [[token] for token in ids]):
        pieces = pieces_of(kind, grouped, prompt, skip_special_tokens=skip)
        assert "".join(pieces) == whole


@each_kind
@examples
@given(data=st.data(), skip=st.booleans())
def test_text_is_that_of_the_tokenizer_s_own_decode(kind, data, skip):
    """Except where docs/engine.md says that it is not: wrong bytes, and the end of a text."""
    ids = data.draw(ids_of(kind, max_size=40))
    own = KINDS[kind].decode(ids, skip_special_tokens=skip)
    text = text_of(kind, ids, skip_special_tokens=skip)
    if kind == "word_ends":
        own, text = own.rstrip(), text.rstrip()
    if REPLACEMENT in own and "byte_fallback" in kind:
        return
    assert text == own


@each_lossless
@examples
@given(text=TEXTS)
def test_pieces_are_whole_characters(kind, text):
    ids = KINDS[kind].encode(text).ids
    pieces = pieces_of(kind, [[token] for token in ids])
    assert "".join(pieces) == KINDS[kind].decode(ids)
    assert sum(piece.count(REPLACEMENT) for piece in pieces) == text.count(REPLACEMENT)


def test_byte_fallback_keeps_the_characters_of_a_run_that_ends_badly():
    """Mistral's own `decode` gives six replacement characters for these tokens."""
    tokenizer = KINDS["byte_fallback"]
    ids = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in b"\xf0\x92\x8d\x85\xe1\x9a"]
    assert tokenizer.decode(ids) == REPLACEMENT * 6
    assert text_of("byte_fallback", ids) == "𒍅" + REPLACEMENT * 2
    assert pieces_of("byte_fallback", [[i] for i in ids]) == ["", "", "", "𒍅", "", "", "��"]


@each_lossless
@examples
@given(prompt=TEXTS, text=TEXTS)
def test_text_behind_a_prompt_keeps_its_spaces(kind, prompt, text):
    tokenizer = KINDS[kind]
    before, after = tokenizer.encode("a" + prompt).ids, tokenizer.encode(text).ids
    told = text_of(kind, after, before)
    assert tokenizer.decode(before) + told == tokenizer.decode(before + after)


@each_lossless
@examples
@given(text=TEXTS, data=st.data())
def test_a_character_that_the_prompt_begins_belongs_to_the_output(kind, text, data):
    ids = KINDS[kind].encode(text).ids
    cut = data.draw(st.integers(0, len(ids)))
    whole_characters = pieces_of(kind, [ids[:cut]])[0]
    assert whole_characters + text_of(kind, ids[cut:], ids[:cut]) == KINDS[kind].decode(ids)


@each_lossless
@pytest.mark.parametrize("prompt", ["a\ufffd", "\ufffd", "漢\ufffd\ufffd"])
def test_a_replacement_character_that_ends_the_prompt_stays_there(kind, prompt):
    """A document that was cut within a character, and decoded, ends like that."""
    tokenizer = KINDS[kind]
    before, after = tokenizer.encode(prompt).ids, tokenizer.encode("ab").ids
    assert text_of(kind, after, before).strip() == "ab"
    assert text_of(kind, [], before) == ""


@each_lossless
@pytest.mark.parametrize("end", [b"\xe1", b"\xe1\x9a", b"\xf0\x92\x8d", b"\x80", b"\xff", b"a\xc3"])
def test_bytes_that_the_prompt_leaves_open_are_no_output(kind, end):
    tokenizer = KINDS[kind]
    alphabet = [TOKEN_BYTES[kind][token] for token in range(tokenizer.get_vocab_size())]
    before = tokenizer.encode("b").ids + [alphabet.index(bytes([byte])) for byte in end]
    after = [alphabet.index(b"a"), alphabet.index(b"b")]
    assert text_of(kind, after, before) == "ab"
    assert text_of(kind, [], before) == ""


@each_lossless
def test_wrong_bytes_are_not_held_for_ever(kind):
    alphabet = [TOKEN_BYTES[kind][token] for token in range(KINDS[kind].get_vocab_size())]
    wrong = alphabet.index(b"\xff")  # is in no character
    assert pieces_of(kind, [[wrong]] * 100) == [REPLACEMENT] * 100 + [""]


def test_special_tokens_at_the_end_of_the_prompt_hide_no_character_that_it_begins():
    tokenizer = KINDS["byte_fallback"]
    first, *others = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in "漢".encode()]
    prompt = [tokenizer.token_to_id("▁ab"), first, tokenizer.token_to_id("</s>")]
    assert text_of("byte_fallback", others, prompt) == "漢"


def test_special_tokens_in_between_are_no_text():
    tokenizer = KINDS["byte_fallback"]
    ab, end = tokenizer.token_to_id("▁ab"), tokenizer.token_to_id("</s>")
    ids = [end, ab, end, end, ab]
    assert pieces_of("byte_fallback", [[i] for i in ids]) == ["", "ab", "", "", " ab", ""]
    shown = pieces_of("byte_fallback", [[i] for i in ids], skip_special_tokens=False)
    assert shown == ["</s>", " ab", "</s>", "</s>", " ab", ""]


@each_kind
def test_bytes_of_tokens_add_up(kind):
    """As structured output and log-probabilities use them."""
    known, size = TOKEN_BYTES[kind], KINDS[kind].get_vocab_size()
    ids = list(range(0, size, 3))
    joined = known.first(ids[0]) + b"".join(known[token] for token in ids[1:])
    text = text_of(kind, ids, skip_special_tokens=False)
    assert joined.decode(errors="replace").replace(REPLACEMENT, "") == text.replace(REPLACEMENT, "")
    assert known[size + 5] == b""


def test_a_decoder_that_looks_at_more_than_one_token_is_refused():
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.decoder = decoders.CTC()
    with pytest.raises(ValueError, match="its decoder, CTC, decodes two tokens 'a' as 'a'"):
        TokenBytes(tokenizer)


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
