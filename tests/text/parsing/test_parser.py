"""The same message wherever the pieces of its text end; and what each family's text means."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm.text.parsing import (
    REASONING_FORMATS,
    TOOL_FORMATS,
    Call,
    Content,
    ParsedCall,
    ParsedMessage,
    Parser,
    Reasoning,
    begins_in_reasoning,
    join,
    parse,
)

NAMES = ["add", "get_weather", "now"]
THINK = REASONING_FORMATS["qwen3"]
A, B, C, D, E, F = (
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
    "function<｜tool▁sep｜>",
)


def in_pieces(text, pieces, *args, **kwargs):
    """All deltas of a text that comes in these pieces."""
    parser = Parser(*args, **kwargs)
    deltas = [delta for piece in pieces for delta in parser.feed(piece)]
    return [*deltas, *parser.finish()]


def cut(text, at):
    at = sorted({min(position, len(text)) for position in at})
    return [text[a:b] for a, b in zip([0, *at], [*at, len(text)])]


def check(text, at, *args, **kwargs):
    """Parses a text as a whole, in pieces and by characters; returns the message it always is."""
    whole = parse(text, *args, **kwargs)
    for pieces in (cut(text, at), list(text)):
        deltas = in_pieces(text, pieces, *args, **kwargs)
        assert join(deltas) == whole
        begun = [delta.index for delta in deltas if isinstance(delta, Call) and delta.name]
        assert begun == list(range(len(whole.calls)))
        for delta in deltas:
            assert isinstance(delta, Call) or delta.text
    return whole


def message(content=None, *calls, reasoning=None):
    pairs = tuple(ParsedCall(name, arguments) for name, arguments in calls)
    return ParsedMessage(content, reasoning, pairs)


ADD = ("add", '{"a": 1}')
NOW = ("now", "{}")
SUNNY = ("get_weather", '{"city": "Ko\\"ln }"}')
CASES = [
    # Hermes and Qwen
    ("hermes", "hello", message("hello")),
    (
        "hermes",
        '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>',
        message(None, ADD),
    ),
    (
        "hermes",
        'Sure.\n<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>\n'
        '<tool_call>{"arguments": {}, "name": "now"}</tool_call>\n',
        message("Sure.", ADD, NOW),
    ),
    ("hermes", '<tool_call>{"name": "now"}</tool_call>', message(None, NOW)),
    ("hermes", '<tool_call>{"name": "now", "arguments": null}</tool_call>', message(None, NOW)),
    ("hermes", '<tool_call>{"name": "now", "arguments": ""}</tool_call>', message(None, NOW)),
    (
        "hermes",
        '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>',
        message(None, ADD),
    ),
    (
        "hermes",
        '<tool_call>{"id": [{"x": "}"}], "name": "add", "arguments": {"a": 1}, "n": 1}</tool_call>',
        message(None, ADD),
    ),
    # a bracket too many; a marker that is missing; both
    ("hermes", '<tool_call>{"name": "now", "arguments": {}}}</tool_call> a', message("a", NOW)),
    (
        "hermes",
        '<tool_call>{"name": "now"}\n<tool_call>{"name": "add", "arguments": {"a": 1}}',
        message(None, NOW, ADD),
    ),
    ("hermes", 'a <tool_call>{"name": "now"}</tool_call>\nb', message("a b", NOW)),
    # no calls
    ("hermes", "use <tool_call> for it", message("use <tool_call> for it")),
    ("hermes", "<tool_call>{now}</tool_call>", message("<tool_call>{now}</tool_call>")),
    ("hermes", '<tool_call>{"x": 1}</tool_call>', message('<tool_call>{"x": 1}</tool_call>')),
    (
        "hermes",
        '<tool_call>{"name": "a b"}</tool_call>',
        message('<tool_call>{"name": "a b"}</tool_call>'),
    ),
    ("hermes", "a < b <tool", message("a < b <tool")),
    ("hermes", '<tool_call><tool_call>{"name": "now"}</tool_call>', message(None, NOW)),
    # cut short
    ("hermes", '<tool_call>{"name": "ad', message('<tool_call>{"name": "ad')),
    ("hermes", '<tool_call>{"name": "add", "arguments": {"a', message(None, ("add", '{"a'))),
    # Llama 3
    ("llama3_json", '{"name": "add", "parameters": {"a": 1}}', message(None, ADD)),
    (
        "llama3_json",
        '<|python_tag|>{"name": "add", "parameters": {"a": 1}}; {"name": "now", "parameters": {}}',
        message(None, ADD, NOW),
    ),
    ("llama3_json", '{"name": "now"}', message(None, NOW)),
    ("llama3_json", '{"type": "function", "name": "now"}', message(None, NOW)),
    ("llama3_json", '{"name": "Ann", "age": 5}', message('{"name": "Ann", "age": 5}')),
    (
        "llama3_json",
        '{"name": "Ann", "parameters": {}}',
        message('{"name": "Ann", "parameters": {}}'),
    ),
    ("llama3_json", 'See: {"name": "now"}', message('See: {"name": "now"}')),
    # in Python
    ("pythonic", "[add(a=1), now()]", message(None, ADD, NOW)),
    (
        "pythonic",
        "<|python_start|>[get_weather(city='Ko\"ln }')]<|python_end|>",
        message(None, SUNNY),
    ),
    ("pythonic", "[add(a=[1, {'b': null}])]", message(None, ("add", '{"a": [1, {"b": null}]}'))),
    ("pythonic", "[1, 2]", message("[1, 2]")),
    ("pythonic", "[add(1)]", message("[add(1)]")),
    ("pythonic", "[add(a=b)]", message("[add(a=b)]")),
    ("pythonic", "[add(a=1", message("[add(a=1")),
    ("pythonic", "[add(a=1), nobody()]", message(", nobody()]", ADD)),
    # Mistral
    (
        "mistral",
        '[TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}, {"name": "now", "arguments": {}}]',
        message(None, ADD, NOW),
    ),
    ("mistral", '[TOOL_CALLS] [{"name": "now"}]', message(None, NOW)),
    ("mistral", 'Ok[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]now[ARGS]{}', message("Ok", ADD, NOW)),
    ("mistral", '[TOOL_CALLS]add[CALL_ID]x1[ARGS]{"a": 1}', message(None, ADD)),
    ("mistral", '[TOOL_CALLS]add{"a": 1}', message(None, ADD)),
    ("mistral", "[TOOL_CALLS]now[ARGS]", message(None, NOW)),
    ("mistral", "[TOOL_CALLS] of it", message("[TOOL_CALLS] of it")),
    # DeepSeek
    (
        "deepseek_v3",
        f'Hm.{A}{B}{F}add\n```json\n{{"a": 1}}\n```{D}\n{B}{F}now\n```json\n{{}}\n```{D}{E}',
        message("Hm.", ADD, NOW),
    ),
    ("deepseek_v3", f"{A}{B}{F}now\n{D}{E}", message(None, NOW)),
    ("deepseek_v3", f'{A}{B}{F}add\n{{"a": 1}}{D}{E}', message(None, ADD)),
    ("deepseek_v31", f'{A}{B}add{C}{{"a": 1}}{D}{B}now{C}{{}}{D}{E}', message(None, ADD, NOW)),
    ("deepseek_v31", f"{A}{B}now{C}{D}{E}", message(None, NOW)),
    ("deepseek_v31", f"{A} it", message(f"{A} it")),
]


@pytest.mark.parametrize(("form", "text", "expected"), CASES)
def test_calls_of_each_family(form, text, expected):
    assert check(text, range(0, len(text), 3), TOOL_FORMATS[form], tool_names=NAMES) == expected


CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>\nhm, so\n</think>\n\nYes.\n", message("Yes.\n", reasoning="hm, so")),
        ("<think>\n\n</think>\n\nYes", message("Yes")),
        (" <think>hm</think>", message(reasoning="hm")),
        ("<think>hm", message(reasoning="hm")),
        ("<think>hm</thi", message(reasoning="hm</thi")),
        ("a <think> b", message("a <think> b")),
        ("a </think> b", message("a </think> b")),
        (f"<think>hm</think>\n{CALL}", message(None, ADD, reasoning="hm")),
        # A call ends a reasoning that is not closed, or closed too late.
        (f"<think>hm\n{CALL}", message(None, ADD, reasoning="hm")),
        (f"<think>hm\n{CALL}\n</think>\nso", message("so", ADD, reasoning="hm")),
        # What only speaks of calls is reasoning.
        ("<think>a <tool_call> b</think>c", message("c", reasoning="a <tool_call> b")),
        (
            '<think><tool_call>{"name": "f"}</tool_call></think>c',
            message("c", reasoning='<tool_call>{"name": "f"}</tool_call>'),
        ),
        (
            '<think><tool_call>{"name": "add</think>c',
            message("c", reasoning='<tool_call>{"name": "add'),
        ),
        # Models that think between calls, or twice.
        (f"<think>a</think>{CALL}\n<think>b</think>c", message("c", ADD, reasoning="ab")),
        ("<think>a</think>\n<think>b</think>c", message("c", reasoning="ab")),
        # An end that belongs to nothing.
        (f"{CALL}\na </think> b", message("a </think> b", ADD)),
    ],
)
def test_reasoning(text, expected):
    tools = TOOL_FORMATS["hermes"]
    assert check(text, range(0, len(text), 4), tools, THINK, tool_names=NAMES) == expected


def test_reasoning_that_the_prompt_begins():
    assert begins_in_reasoning("<|assistant|><think>\n", THINK)
    assert not begins_in_reasoning("<|assistant|><think>\n\n</think>\n", THINK)
    assert not begins_in_reasoning("<think>", None)
    text = f"\nhm\n</think>\n\nSo.\n{CALL}"
    args = TOOL_FORMATS["hermes"], THINK
    assert check(text, [3], *args, begins_in_reasoning=True) == message("So.", ADD, reasoning="hm")


def test_a_call_without_a_marker_behind_reasoning():
    text = '<think>hm</think>\n{"name": "now"}'
    args = TOOL_FORMATS["llama3_json"], THINK
    assert check(text, [20], *args, tool_names=NAMES) == message(None, NOW, reasoning="hm")


def test_without_formats_everything_is_content():
    text = f" <think>{CALL}</think> "
    assert check(text, [5, 20]) == message(text)


def test_what_a_stream_shows_and_when():
    parser = Parser(TOOL_FORMATS["hermes"], THINK, tool_names=NAMES)
    assert parser.feed("<think>so") == [Reasoning("so")]
    assert parser.feed(" </th") == []
    assert parser.feed("ink>\nI will <tool") == [Content("I will")]
    assert parser.feed('_call>{"name": "get_') == []
    assert parser.feed('weather", "arguments": ') == []
    assert parser.feed('{"city"') == [Call(0, "get_weather", '{"city"')]
    assert parser.feed(': "Bonn"}}</tool_call>') == [Call(0, None, ': "Bonn"}')]
    assert parser.finish() == []


def test_an_answer_in_json_does_not_wait_for_its_end():
    parser = Parser(TOOL_FORMATS["llama3_json"], tool_names=NAMES)
    assert parser.feed('{"answer": "a') == [Content('{"answer": "a')]
    parser = Parser(TOOL_FORMATS["llama3_json"], tool_names=NAMES)
    assert parser.feed('{"name": "Ann", "age": 5') == [Content('{"name": "Ann", "age": 5')]
    parser = Parser(TOOL_FORMATS["pythonic"], tool_names=NAMES)
    assert parser.feed("[see this]") == [Content("[see this]")]


# Any text at all of what decides something.
FRAGMENTS = [
    *("<tool_call>", "</tool_call>", "<think>", "</think>", "<|python_tag|>", ";", "[TOOL_CALLS]"),
    *("[ARGS]", "[CALL_ID]", "<|python_start|>", "<|python_end|>", A, B, C, D, E, F),
    *("{", "}", "[", "]", "(", ")", '"', "'", ":", ",", "\\", "=", "<", " ", "\n", "a", "```", "é"),
    *('{"name": "add"', '"arguments": {', '"parameters": ', "null", "add", "add(", "now()", "1"),
    *('{"name": "now", "arguments": {}}', "```json\n", "[add(a=1)", CALL),
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join)


@pytest.mark.parametrize("form", TOOL_FORMATS)
@settings(max_examples=200)
@given(
    text=TEXTS,
    at=st.lists(st.integers(0, 200), max_size=6),
    names=st.sampled_from([(), NAMES]),
    thinks=st.booleans(),
)
def test_any_split_of_any_text_is_the_same_message(form, text, at, names, thinks):
    tools = TOOL_FORMATS[form]
    for reasoning in (None, THINK):
        begins = thinks and reasoning is not None
        check(text, at, tools, reasoning, tool_names=names, begins_in_reasoning=begins)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab"\\{}[]<>é\n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('kl"', max_size=2), inner),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(st.sampled_from(["a", "b_c", "city"]), JSON, max_size=3)
CALLS = st.lists(st.tuples(st.sampled_from(NAMES), ARGUMENTS), max_size=3)
PROSE = st.text("ab <>{}[]é.\n", min_size=1, max_size=20).map(str.strip).filter(bool)


def written(form, calls):
    """Calls as a model of this family writes them."""
    as_json = [(name, json.dumps(arguments)) for name, arguments in calls]
    if form == "hermes":
        line = '<tool_call>\n{{"name": "{}", "arguments": {}}}\n</tool_call>'
        return "\n".join(line.format(*call) for call in as_json)
    if form == "llama3_json":
        line = '{{"name": "{}", "parameters": {}}}'
        return "<|python_tag|>" + "; ".join(line.format(*call) for call in as_json)
    if form == "pythonic":
        listed = [
            f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
            for name, arguments in calls
        ]
        return f"<|python_start|>[{', '.join(listed)}]<|python_end|>"
    if form == "mistral":
        return "".join(f"[TOOL_CALLS]{name}[ARGS]{arguments}" for name, arguments in as_json)
    if form == "deepseek_v3":
        line = B + F + "{}\n```json\n{}\n```" + D
        return A + "\n".join(line.format(*call) for call in as_json) + E
    return A + "".join(f"{B}{name}{C}{arguments}{D}" for name, arguments in as_json) + E


@pytest.mark.parametrize("form", TOOL_FORMATS)
@settings(max_examples=150)
@given(
    thought=st.none() | PROSE,
    prose=st.none() | PROSE,
    calls=CALLS,
    at=st.lists(st.integers(0, 300), max_size=8),
)
def test_what_was_written_is_read(form, thought, prose, calls, at):
    text = "" if thought is None else f"<think>\n{thought}\n</think>\n\n"
    text += (prose or "") + ("\n" + written(form, calls) if calls else "")
    read = check(text, at, TOOL_FORMATS[form], THINK, tool_names=NAMES)
    assert (read.reasoning, read.content) == (thought, prose)
    assert [(call.name, json.loads(call.arguments)) for call in read.calls] == calls


def test_many_markers_that_begin_no_call_are_not_read_again_and_again():
    """Each of these could be the call that the end of the text completes."""
    text = '<tool_call>{"name": ' + '"<tool_call>{' * 2000
    assert parse(text, TOOL_FORMATS["hermes"]).content == text
