"""A model's tokenizer and chat template, from the files that the hub has."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors

from vllm.config import ModelError
from vllm.text.chat_template import ChatTemplate
from vllm.text.tokenizer import Tokenizer

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}\n"
    "[{{ message.role }}] {{ message.content }}\n"
    "{% endfor %}\n"
    "{%- if add_generation_prompt %}[assistant]{% endif %}"
)
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def folder(tmp_path):
    vocab = {"<s>": 0, "hello": 1, "world": 2, "[UNK]": 3}
    backend = Backend(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    backend.add_special_tokens(["<s>"])
    backend.enable_truncation(2)
    backend.enable_padding(length=8)
    backend.save(str(tmp_path / "tokenizer.json"))
    config = {"bos_token": {"content": "<s>"}, "eos_token": None, "chat_template": TEMPLATE}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def test_encode_and_decode(folder):
    tokenizer = Tokenizer(folder)
    assert tokenizer.vocab_size == 4
    # Neither cut nor filled, whatever the file was saved with.
    assert tokenizer.encode("hello world hello") == [0, 1, 2, 1]
    assert tokenizer.encode("hello", add_special_tokens=False) == [1]
    assert tokenizer.decode([0, 1, 2]) == "hello world"
    assert tokenizer.decode([0, 1], skip_special_tokens=False) == "<s> hello"
    assert tokenizer.token_text(1) == " hello"


def test_chat_template_and_its_variables(folder):
    tokenizer = Tokenizer(folder)
    assert tokenizer.apply_chat_template(MESSAGES) == "<s>[user] hi\n[assistant]"
    without = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=False)
    assert without == "<s>[user] hi\n"
    other = tokenizer.apply_chat_template(MESSAGES, template="{{ mood }}", mood="calm")
    assert other == "calm"


def test_templates_are_found_in_each_place(tmp_path):
    assert ChatTemplate.read(tmp_path, {"chat_template": "A"}).render(MESSAGES) == "A"
    named = [{"name": "tool", "template": "T"}, {"name": "default", "template": "D"}]
    assert ChatTemplate.read(tmp_path, {"chat_template": named}).render(MESSAGES) == "D"
    (tmp_path / "chat_template.json").write_text('{"chat_template": "J"}')
    assert ChatTemplate.read(tmp_path, {}).render(MESSAGES) == "J"
    (tmp_path / "chat_template.jinja").write_text("F")
    assert ChatTemplate.read(tmp_path, {"chat_template": "A"}).render(MESSAGES) == "F"


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
    ],
)
def test_refusals(source, messages, message):
    with pytest.raises(ValueError, match=message):
        ChatTemplate(source).render(messages)


def test_a_template_that_is_no_text(tmp_path):
    with pytest.raises(ValueError, match="a chat template is text, Jinja source, got 5"):
        ChatTemplate.read(tmp_path, {"chat_template": 5})
    # Several, none of which is the default.
    with pytest.raises(ValueError, match="this model has no chat template"):
        ChatTemplate.read(tmp_path, {"chat_template": [{"name": "tool"}]}).render(MESSAGES)


def test_messages_are_the_caller_s_even_if_a_variable_has_their_name():
    assert ChatTemplate("{{ messages[0].content }}").render(MESSAGES, messages=[]) == "hi"


def test_unusable_tokenizer_files_are_named(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
        Tokenizer(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer\.json; a SentencePiece"):
        Tokenizer(folder)
