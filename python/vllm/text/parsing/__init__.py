"""Parses tool calls and reasoning in a model's text, streamed or as a whole.

    parser = Parser(TOOL_FORMATS["hermes"], REASONING_FORMATS["qwen3"], tool_names=["add"])
    for piece in pieces:
        for delta in parser.feed(piece):    # Content, Reasoning or Call, in their order
            ...
    for delta in parser.finish():
        ...

`parse` does the same for a whole text, and `join` makes one `ParsedMessage` of deltas. The parser
reads character by character, so the message does not depend on where pieces end. A `Call` with a
name begins a call, and its name is always complete; later ones with the same index have more of its
arguments, as JSON text. A call without arguments has `{}`. Text that begins like a call but is not
one stays text.

tools: the format of calls; None if the client gave no tools, so that all text is content.
reasoning: the format of reasoning; None if the model has none.
tool_names: the names of the client's tools. A call without a marker (Llama), or within reasoning,
    must have one of these names.
begins_in_reasoning: whether the prompt ends in an open reasoning; see
    `begins_in_reasoning(prompt, format)`.

If the format's `needs_special_tokens` is true, its markers are special tokens, and the text must
include them (`skip_special_tokens=False`).
"""

from vllm.text.parsing.deltas import (
    Call,
    Content,
    Delta,
    ParsedCall,
    ParsedMessage,
    Reasoning,
    join,
)
from vllm.text.parsing.formats import (
    REASONING_FORMATS,
    TOOL_FORMATS,
    ReasoningFormat,
    ToolFormat,
    begins_in_reasoning,
)
from vllm.text.parsing.parser import Parser, parse

__all__ = [
    "REASONING_FORMATS",
    "TOOL_FORMATS",
    "Call",
    "Content",
    "Delta",
    "ParsedCall",
    "ParsedMessage",
    "Parser",
    "Reasoning",
    "ReasoningFormat",
    "ToolFormat",
    "begins_in_reasoning",
    "join",
    "parse",
]
