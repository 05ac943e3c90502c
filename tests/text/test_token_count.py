"""The fewest tokens of a text, beside the tokens that it has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

from tests.text.kinds import KINDS, byte_fallback, byte_level
from vllm.text.token_count import TokenCount

COUNTS = {name: TokenCount(kind) for name, kind in KINDS.items()}
KNOWN = {"byte_level", "byte_fallback", "byte_fallback_without_strip"}
# What tokenizers merge, drop or shorten: spaces, marks that compose, controls, words of the tokens.
TEXTS = st.text(
    st.sampled_from("ab c\t\n.é漢😀\ufffd\x04\u0301\u0345\u0313\u03b1</s>▁") | st.characters()
).map(lambda text: text.encode(errors="replace").decode())


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=60)
@given(text=st.one_of(TEXTS, TEXTS.map(lambda text: 40 * text)))
def test_a_text_never_has_fewer(name, text):
    assert COUNTS[name].fewest(text) <= len(KINDS[name].encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("name", KINDS)
def test_it_is_known_where_no_token_is_without_limit(name):
    longest = max(map(len, KINDS[name].get_vocab()))
    assert COUNTS[name].fewest("a" * 1000) == (-(-1000 // longest) if name in KNOWN else 0)


@settings(deadline=None, max_examples=60)
@given(text=TEXTS)
def test_a_normalizer_that_composes(text):
    tokenizer = byte_level()
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    marked = text + "\u03b1\u0313\u0300\u0345" * 30  # one character of its own, of four
    for each in (text, marked):
        assert TokenCount(tokenizer).fewest(each) <= len(tokenizer.encode(each).ids)
    assert TokenCount(tokenizer).fewest("a" * 1000) > 0


def test_characters_that_a_vocabulary_leaves_out_do_not_count():
    full = byte_level()
    left_out = next(c for c, byte in _bytes().items() if byte == 4)
    tokens = [each for each in full.get_vocab(with_added_tokens=False) if left_out not in each]
    tokenizer = byte_level()
    tokenizer.model = models.BPE({each: i for i, each in enumerate(tokens)}, [])
    text = "\x04" * 500
    assert tokenizer.encode(text).ids == []
    assert TokenCount(tokenizer).fewest(text) == 0
    assert TokenCount(tokenizer).fewest(text + "a" * 100) > 0


def _bytes():
    from vllm.text.token_bytes import BYTE_OF_CHARACTER

    return BYTE_OF_CHARACTER


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.add_tokens([AddedToken("<x>", rstrip=True)]),
        lambda t: setattr(t, "normalizer", normalizers.Strip()),
        lambda t: setattr(t, "normalizer", normalizers.Replace(Regex(" +"), " ")),
        lambda t: setattr(t, "normalizer", normalizers.Replace("  ", " ")),
        lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.WhitespaceSplit()),
        lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.Split(" ", "removed")),
    ],
)
def test_what_can_shorten_a_text_without_limit(change):
    tokenizer = byte_fallback()
    change(tokenizer)
    assert TokenCount(tokenizer).fewest("a" * 1000) == 0


def test_signs_instead_of_spaces():
    tokenizer = byte_fallback()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.pre_tokenizer = None
    assert 0 < TokenCount(tokenizer).fewest("a " * 1000) <= len(tokenizer.encode("a " * 1000).ids)
