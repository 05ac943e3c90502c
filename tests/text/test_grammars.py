"""Compiled grammars are kept; each output begins at the start of its own."""

from __future__ import annotations

import pytest

from vllm.sampling_params import StructuredOutputsParams
from vllm.text import grammars
from vllm.text.grammars import GrammarCompiler, fill_masks
from vllm.text.tokenizer import Tokenizer

llguidance = pytest.importorskip("llguidance", reason="llguidance compiles grammars")

VOCAB = 320
NBYTES = VOCAB // 8


@pytest.fixture
def compiler(chat_model):
    return GrammarCompiler(Tokenizer(chat_model.folder), VOCAB, frozenset([0]))


@pytest.fixture
def compiled(monkeypatch):
    """The grammars that llguidance has compiled."""
    made = []
    real = llguidance.LLMatcher

    def matcher(tokenizer, grammar, **options):
        made.append(grammar)
        return real(tokenizer, grammar, **options)

    monkeypatch.setattr(llguidance, "LLMatcher", matcher)
    return made


def regex(text):
    return StructuredOutputsParams(regex=text)


def allowed(grammar):
    memory = memoryview(bytearray(NBYTES))
    assert fill_masks([(grammar, 0)], NBYTES, memory) == []
    return bytes(memory)


def test_one_format_is_compiled_once(compiler, compiled):
    for _ in range(3):
        compiler.compile(regex("[ab]+"))
        compiler.compile(StructuredOutputsParams(choice=["a", "b"]))
    assert len(compiled) == 2


def test_a_kept_grammar_does_not_move(compiler):
    first = compiler.compile(regex("ab"))
    start = allowed(first)
    (token,) = Tokenizer(compiler._tokenizer.folder).encode("a", add_special_tokens=False)
    assert not first.accept(token)
    assert allowed(first) != start
    assert allowed(compiler.compile(regex("ab"))) == start


def test_the_oldest_grammar_is_dropped(compiler, compiled):
    for index in range(grammars.MOST_GRAMMARS + 1):
        compiler.compile(regex(f"a{{{index + 1}}}"))
    del compiled[:]
    compiler.compile(regex("a{2}"))
    assert compiled == []
    compiler.compile(regex("a{1}"))
    assert len(compiled) == 1


def test_an_invalid_format_is_refused_each_time(compiler, compiled):
    for _ in range(2):
        with pytest.raises(ValueError, match="structured_outputs"):
            compiler.compile(regex("("))
