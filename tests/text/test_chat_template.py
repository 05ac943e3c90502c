"""Conversations as prompts: as transformers makes them, but for what it would print as Python."""

from __future__ import annotations

import json
import warnings

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models

from vllm.config import ModelError
from vllm.text.chat_template import ChatTemplate, ChatTemplates
from vllm.text.tokenizer import Tokenizer

MESSAGES = [{"role": "user", "content": "hi"}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]

# In the manner of the families that they are named after.
PLAIN = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TRIMMING = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] | trim + '</s>' }}{% endfor %}"
    "{%- if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
IN_PARTS = (
    "{% for m in messages %}[{{ m.role }}]{% for part in m.content %}{% if part.type == 'text' %}"
    "{{ part.text }}{% else %}<image>{% endif %}{% endfor %}\n{% endfor %}"
)
SYSTEM_AS_TEXT = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}{% endif %}"
    "{% for m in messages if m.role != 'system' %}"
    "{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %};{% endfor %}"
)
WITH_TOOLS = (
    "{%- macro shown(content) %}{% if content is string %}{{ content }}{% else %}"
    "{% for part in content %}{{ part['text'] }}{% endfor %}{% endif %}{% endmacro %}"
    "{% if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}"
    "{% for document in documents or [] %}({{ document.title }}: {{ document.text }}){% endfor %}"
    "{% for m in messages %}<{{ m.role }}>{{ shown(m.content) if m.content is defined }}"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{% for call in m.tool_calls or [] %}<call>{{ call.function.name }}"
    "{{ call.function.arguments | tojson }}</call>{% endfor %}{% endfor %}"
    "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
)
ARGUMENTS_AS_TEXT = (
    "{% for m in messages %}{% for call in m.tool_calls or [] %}"
    "{{ call['function']['name'] + '(' + call['function']['arguments'] + ')' }}"
    "{% endfor %}{% endfor %}"
)
CONTENT_ALWAYS = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] }}"
    "{% for call in m.tool_calls or [] %}{{ call.function.name + call.function.arguments }}"
    "{% endfor %}{% endfor %}"
)
IGNORES_CALLS = "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] }}{% endfor %}"


def write(folder, template):
    folder.mkdir(exist_ok=True)
    backend = Backend(models.WordLevel({"<s>": 0, "</s>": 1, "hi": 2}, unk_token="hi"))
    backend.add_special_tokens(["<s>", "</s>"])
    backend.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template}
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def in_transformers(folder):
    pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast.from_pretrained(folder)


def called(arguments):
    function = {"name": "add", "arguments": arguments}
    return [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [{"function": function}]},
        {"role": "tool", "name": "add", "content": "3"},
    ]


ANSWERED = [*MESSAGES, {"role": "assistant", "content": " so it "}]
THOUGHT = [*MESSAGES, {"role": "assistant", "content": "yes", "reasoning": "hm"}]
CASES = {
    "plain": (PLAIN, MESSAGES, {}),
    "without a beginning": (PLAIN, ANSWERED, {"add_generation_prompt": False}),
    "continued": (PLAIN, ANSWERED, {"continue_final_message": True}),
    "trimmed": (TRIMMING, [{"role": "user", "content": " hi \n"}], {}),
    "continued and trimmed": (TRIMMING, ANSWERED, {"continue_final_message": True}),
    "parts": (IN_PARTS, PARTS, {}),
    "continued part": (IN_PARTS, PARTS, {"continue_final_message": True}),
    "parts by a macro": (WITH_TOOLS, PARTS, {}),
    "tools": (WITH_TOOLS, MESSAGES, {"tools": TOOLS}),
    "no tools": (WITH_TOOLS, MESSAGES, {"tools": []}),
    "documents": (WITH_TOOLS, MESSAGES, {"documents": [{"title": "T", "text": "é"}]}),
    "calls": (WITH_TOOLS, called({"a": 1, "b": "<é>"}), {"tools": TOOLS}),
    "arguments as text": (ARGUMENTS_AS_TEXT, called('{"a": 1}'), {}),
    "reasoning": (WITH_TOOLS, THOUGHT, {}),
    "a variable": (WITH_TOOLS, MESSAGES, {"enable_thinking": False}),
    "a token of one's own": (PLAIN, MESSAGES, {"bos_token": "<b>"}),
    "source": (PLAIN, MESSAGES, {"template": "{{ messages | length }}{{ eos_token }}"}),
    "named": ({"default": PLAIN, "rag": IN_PARTS}, PARTS, {"template": "rag"}),
    "named, default": ({"default": PLAIN, "rag": "R"}, MESSAGES, {}),
    "named, for tools": ({"default": PLAIN, "tool_use": WITH_TOOLS}, MESSAGES, {"tools": TOOLS}),
    "named, no tools": ({"default": PLAIN, "tool_use": WITH_TOOLS}, MESSAGES, {"tools": None}),
}


@pytest.mark.parametrize("as_files", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_prompts_are_those_of_transformers(tmp_path, case, as_files):
    template, messages, options = CASES[case]
    folder = write(tmp_path / "model", None)
    theirs = in_transformers(folder)
    theirs.chat_template = template
    theirs.save_pretrained(folder, save_jinja_files=as_files)
    assert (folder / "chat_template.jinja").exists() == as_files
    options = {"add_generation_prompt": "continue_final_message" not in options, **options}
    prompt = Tokenizer(folder).apply_chat_template(messages, **options)
    chosen = {"chat_template": options.pop("template", None)}
    assert prompt == in_transformers(folder).apply_chat_template(
        messages, tokenize=False, **chosen, **options
    )
    assert prompt


def test_templates_are_found_in_each_place(tmp_path):
    def rendered(config, wanted=None):
        templates = ChatTemplates.read(tmp_path, config)
        return templates.choose(wanted, has_tools=False).render(MESSAGES)

    assert rendered({"chat_template": "A"}) == "A"
    named = [{"name": "tool", "template": "T"}, {"name": "default", "template": "D"}]
    assert rendered({"chat_template": named}) == "D"
    assert rendered({"chat_template": named}, "tool") == "T"
    assert rendered({"chat_template": named}, "{{ 1 }}") == "1"
    (tmp_path / "chat_template.json").write_text('{"chat_template": "J"}')
    assert rendered({}) == "J"
    (tmp_path / "chat_template.jinja").write_text("F")
    assert rendered({"chat_template": "A"}) == "F"
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates/rag.jinja").write_text("R")
    assert rendered({"chat_template": named}, "rag") == "R"
    assert rendered({"chat_template": named}) == "F"


@pytest.mark.parametrize(
    ("template", "messages", "expected"),
    [
        (PLAIN, PARTS, "<s><|user|>hi</s>\n<|assistant|>"),
        (TRIMMING, PARTS, "<user>hi</s><assistant>"),
        (IN_PARTS, MESSAGES, "[user]hi"),
        (SYSTEM_AS_TEXT, [{**PARTS[0], "role": "system"}, *PARTS], "hihi;"),
        (
            TRIMMING,
            [{"role": "user", "content": ["a", {"type": "text", "text": "b"}]}],
            "<user>a\nb</s><assistant>",
        ),
        (WITH_TOOLS, called('{"a": 1}'), '<user>hi<assistant><call>add{"a": 1}</call><tool>3'),
        (ARGUMENTS_AS_TEXT, called({"a": 1}), 'add({"a": 1})'),
        (CONTENT_ALWAYS, called({"a": 1}), '<user>hi<assistant>add{"a": 1}<tool>3'),
        (IGNORES_CALLS, called({"a": 1}), "<user>hi<assistant><tool>3"),
        (IGNORES_CALLS, [{"role": "assistant", "content": None}, *MESSAGES], "<assistant><user>hi"),
        (IGNORES_CALLS, [{"role": "user"}], "<user>"),
        (
            IGNORES_CALLS,
            [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
            "<user>hi",
        ),
        (
            IN_PARTS,
            [
                *PARTS,
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
                {"role": "user", "content": [{"type": "output_text", "text": "yes"}]},
            ],
            "[user]hi[assistant]no[user]yes",
        ),
    ],
)
def test_messages_are_fitted_to_the_form_that_a_template_takes(
    tmp_path, template, messages, expected
):
    """transformers prints a list in Python's way here, raises, or shows nothing."""
    tokenizer = Tokenizer(write(tmp_path, template))
    assert tokenizer.apply_chat_template(messages) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}x{% endfor %}", ""),
        ("{{ {'b': '<é>', 'a': 1} | tojson }}", '{"b": "<é>", "a": 1}'),
        ("{{ messages | tojson(indent=1) | length > 20 }}", "True"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("a{% generation %}b{% endgeneration %}c", "abc"),
    ],
)
def test_what_templates_on_the_hub_use(source, expected):
    assert ChatTemplate(source).render(MESSAGES) == expected


@pytest.mark.parametrize(
    ("source", "messages", "message"),
    [
        (None, MESSAGES, "this model has no chat template"),
        ("x", [], "messages must hold at least one message"),
        ("x", ["hi"], r"messages\[0\] must be a mapping with a role, got 'hi'"),
        ("x", [*MESSAGES, {"content": "y"}], r"messages\[1\] must be a mapping with"),
        ("{{ raise_exception('roles must alternate') }}", MESSAGES, "refused .* must alternate"),
        ("{% if %}", MESSAGES, "refused these messages"),
        ("{{ messages.append(1) }}", MESSAGES, "refused these messages"),
        ("{{ ''.__class__.__mro__ }}", MESSAGES, "refused these messages"),
        ("{{ messages[0].content + 1 }}", MESSAGES, "refused these messages: can only concatenate"),
        ("{{ 1 // 0 }}", MESSAGES, "refused these messages: integer division"),
        ("x", "hello", "messages must be a list of mappings, got 'hello'"),
        ("x", [{"role": "user", "content": 5}], r"messages\[0\].content must be text or a list"),
        (
            "x",
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}],
            r"messages\[0\].content\[1\] is of type 'image_url': this engine takes only text",
        ),
        ("x", [{"role": "user", "content": [{"type": "text"}]}], "must have its text under 'text'"),
        (
            "x",
            [{"role": "user", "content": [{"type": "refusal", "text": "no"}]}],
            "must have its text under 'refusal'",
        ),
        ("x", [{"role": "user", "content": [{}]}], "must be a mapping with a type, got {}"),
        ("x", [{"role": "user", "content": "a", "extra": object}], "must be JSON data, got"),
    ],
)
def test_refusals(source, messages, message):
    with pytest.raises(ValueError, match=message):
        ChatTemplate(source).render(messages)


def test_what_has_no_template_or_no_default(tmp_path):
    for found in (5, [5], [{"name": "a"}], [{"name": "a", "template": 5}]):
        with pytest.raises(ModelError, match="must be Jinja source, or a list of objects with"):
            ChatTemplates.read(tmp_path, {"chat_template": found})
    with pytest.raises(ValueError, match="a chat template is text, Jinja source, got 5"):
        ChatTemplate(5)
    named = ChatTemplates.read(tmp_path, {"chat_template": [{"name": "tool", "template": "T"}]})
    with pytest.raises(ValueError, match=r"several chat templates .* chat_template: tool"):
        named.choose(None, has_tools=False)


def test_messages_are_the_caller_s_even_if_a_variable_has_their_name():
    assert ChatTemplate("{{ messages[0].content }}").render(MESSAGES, messages=[]) == "hi"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"continue_final_message": True, "add_generation_prompt": True},
            "add_generation_prompt begins a new one: set only one of them",
        ),
        ({"tools": "add"}, "tools must be a list of mappings"),
        ({"tools": ["add"]}, "tools must be a list of mappings"),
        ({"documents": [5]}, "documents must be a list of mappings"),
        ({"mood": object()}, "must be JSON data, got <object"),
    ],
)
def test_refused_options(tmp_path, options, message):
    tokenizer = Tokenizer(write(tmp_path, PLAIN))
    with pytest.raises(ValueError, match=message):
        tokenizer.apply_chat_template(MESSAGES, **options)


@pytest.mark.parametrize(
    ("template", "messages", "message"),
    [
        ("x{{ messages[0].content[:1] }}", MESSAGES, "leaves out the end of the final message"),
        (PLAIN, called({}), "leaves out"),
        (PLAIN, [{"role": "assistant"}], "needs a final message with text, got none"),
    ],
)
def test_a_final_message_that_cannot_be_continued(template, messages, message):
    if messages[-1]["role"] == "tool":
        template = "{{ messages[0].content }}"
    with pytest.raises(ValueError, match=message):
        ChatTemplate(template).render(messages, continue_final_message=True)


def test_messages_of_a_client_s_own_types():
    np = pytest.importorskip("numpy")

    class Model:
        def model_dump(self):
            return {"role": "user", "content": "hi", "name": None}

    template = "{{ messages[0].content }}{{ messages[0].name is defined }}{{ flag }}{{ numbers }}"
    rendered = ChatTemplate(template).render(
        [Model()], flag=np.bool_(False), numbers=np.array([1, 2])
    )
    assert rendered == "hiFalseFalse[1, 2]"
