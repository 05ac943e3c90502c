"""What a model's text holds beside text: calls of tools, and reasoning. In pieces or as a whole.

    parser = Parser(TOOL_FORMATS["hermes"], REASONING_FORMATS["qwen3"], tool_names=["add"])
    for piece in pieces:
        for delta in parser.feed(piece):    # Content, Reasoning or Call, in their order
            ...
    for delta in parser.finish():
        ...

`parse` is the same for a whole text, and `join` makes one `ParsedMessage` of deltas. Wherever the
pieces end, they join to the same message: the parser reads characters, and decides nothing by where
a piece ends. A `Call` with a name begins a call, whose name is never cut; those of the same index
that follow have more of its arguments, JSON's text. A call without arguments has `{}`. Text that
begins like a call and is none stays text.

tools: the format of calls, None where the client gave no tools: all text is content then.
reasoning: the format of reasoning, None where the model has none.
tool_names: the names of the client's tools. Where nothing marks a call (Llama), and within
    reasoning, a call is one only with a name of these.
begins_in_reasoning: the prompt ends in an open reasoning; `begins_in_reasoning(prompt, format)`
    finds out.

Text must come with special tokens (`skip_special_tokens=False`) where the format's
`needs_special_tokens` is true, for its markers are such.
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
