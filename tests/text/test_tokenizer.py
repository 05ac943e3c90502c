"""A model's tokenizer, from the files that the hub has."""

from __future__ import annotations

import json
import sys
import threading
import time

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, processors

from vllm.config import ModelError
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


def test_unusable_tokenizer_files_are_named(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
        Tokenizer(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer\.json; a SentencePiece"):
        Tokenizer(folder)


@pytest.mark.parametrize(
    "name",
    ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json"],
)
def test_a_link_to_nothing_is_not_an_absent_file(folder, name):
    if name == "chat_template.json":  # read only if nothing else has a template
        (folder / "tokenizer_config.json").unlink()
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(folder / "gone")
    with pytest.raises(ModelError, match=rf"{name} cannot be read: .*; it is a link to a file"):
        Tokenizer(folder)


def test_a_pointer_in_git_lfs(folder):
    (folder / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\noid")
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read: .*: run `git lfs pull`"):
        Tokenizer(folder)


def test_a_long_text_is_encoded_without_python_s_lock(folder):
    tokenizer = Tokenizer(folder)
    text = "hello world " * 200_000
    others, ended = [0], threading.Event()

    def other():
        while not ended.is_set():
            others[0] += 1
            time.sleep(0)  # gives the lock away, and waits for nothing

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # whoever has the lock keeps it until they give it away
    thread = threading.Thread(target=other)
    try:
        thread.start()
        before = others[0]
        ids = tokenizer.encode(text)
        during = others[0] - before
    finally:
        ended.set()
        sys.setswitchinterval(interval)
        thread.join()
    assert ids == [0, *[1, 2] * 200_000]
    assert during > 0
