"""Compiled grammars are kept; each output begins at the start of its own."""

from __future__ import annotations

import threading

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
    failed = []
    fill_masks([(grammar, 0)], NBYTES, memory, failed.append)
    assert failed == [[]]
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


@pytest.mark.parametrize("rows", [0, 3])
def test_something_else_is_done_once_meanwhile_in_the_same_thread(compiler, rows):
    done = []
    memory = memoryview(bytearray(rows * NBYTES))
    made = [(compiler.compile(regex("[ab]+")), row) for row in range(rows)]
    fill_masks(made, NBYTES, memory, meanwhile=lambda: done.append(threading.current_thread()))
    assert done == [threading.current_thread()]
    expected = allowed(compiler.compile(regex("[ab]+"))) if rows else b""
    assert bytes(memory) == expected * rows


def test_masks_are_there_when_what_is_done_meanwhile_has_failed(compiler):
    memory = memoryview(bytearray(NBYTES))
    grammar = compiler.compile(regex("[ab]+"))
    with pytest.raises(ZeroDivisionError):
        fill_masks([(grammar, 0)], NBYTES, memory, meanwhile=lambda: 1 / 0)
    assert bytes(memory) == allowed(grammar)


def test_an_error_of_the_thread_is_raised(compiler):
    grammar = compiler.compile(regex("[ab]+"))
    with pytest.raises(ValueError, match="out of bounds"):
        fill_masks([(grammar, 7)], NBYTES, memoryview(bytearray(NBYTES)), meanwhile=lambda: None)
    assert allowed(grammar)


def test_an_invalid_format_is_refused_each_time(compiler, compiled):
    for _ in range(2):
        with pytest.raises(ValueError, match="structured_outputs"):
            compiler.compile(regex("("))
