"""The same requests for the same seed, of the lengths that were asked for."""

from __future__ import annotations

import argparse
import json

import pytest

from tests.text.kinds import byte_level
from vllm.entrypoints.bench.datasets import (
    TokensAlone,
    add_dataset_options,
    check_dataset,
    make_samples,
)
from vllm.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_level().save(str(folder / "tokenizer.json"))
    return Tokenizer(folder)


def samples(tokenizer, *words, as_text=False):
    parser = argparse.ArgumentParser()
    add_dataset_options(parser)
    args = parser.parse_args([*map(str, words)])
    check_dataset(args)
    return make_samples(args, tokenizer, as_text=as_text)


def test_random_lengths_lie_within_the_ratio(tokenizer):
    words = ["--num-prompts", 200, "--random-input-len", 50, "--random-output-len", 20]
    words += ["--random-prefix-len", 7, "--random-range-ratio", 0.5]
    found = samples(tokenizer, *words)
    assert {sample.prompt_len for sample in found} == set(range(32, 83))
    assert {sample.output_len for sample in found} == set(range(10, 31))
    assert all(len(sample.prompt) == sample.prompt_len for sample in found)
    assert len({tuple(sample.prompt[:7]) for sample in found}) == 1
    assert max(max(sample.prompt) for sample in found) < tokenizer.vocab_size
    assert found == samples(tokenizer, *words)
    assert found != samples(tokenizer, *words, "--seed", 1)


def test_text_is_as_long_as_it_says(tokenizer):
    for sample in samples(tokenizer, "--num-prompts", 5, as_text=True):
        assert sample.prompt_len == len(tokenizer.encode(sample.prompt))


def test_prefixes_are_shared_by_as_many(tokenizer):
    words = ["--dataset-name", "prefix_repetition", "--num-prompts", 12]
    words += ["--prefix-repetition-prefix-len", 5, "--prefix-repetition-suffix-len", 3]
    found = samples(tokenizer, *words, "--prefix-repetition-num-prefixes", 4)
    prefixes = [tuple(sample.prompt[:5]) for sample in found]
    assert sorted(prefixes.count(each) for each in set(prefixes)) == [3, 3, 3, 3]
    assert len({tuple(sample.prompt) for sample in found}) == 12


def write(path, *turns):
    talks = [{"conversations": [{"value": text} for text in texts]} for texts in turns]
    path.write_text(json.dumps(talks))
    return ["--dataset-name", "sharegpt", "--dataset-path", path]


def test_conversations_of_a_file(tokenizer, tmp_path):
    fits = ["one question", "one long answer", "more"]
    words = write(tmp_path / "talks.json", fits, ["alone"], ["a", "b"], ["x " * 2000, "too long"])
    (found,) = samples(tokenizer, *words)
    assert found.prompt == "one question"
    assert found.prompt_len == len(tokenizer.encode("one question"))
    assert found.output_len == len(tokenizer.encode("one long answer"))
    (longer,) = samples(tokenizer, *words, "--sharegpt-output-len", 9)
    assert longer.output_len == 9


@pytest.mark.parametrize("text", ["{}", "[", '[{"conversations": [{}, {}]}]', "[3]"])
def test_what_is_no_sharegpt_file(tokenizer, tmp_path, text):
    path = tmp_path / "talks.json"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=r"talks\.json (is not a ShareGPT file|has no conversation)"
    ):
        samples(tokenizer, "--dataset-name", "sharegpt", "--dataset-path", path)


def custom(path, *prompts):
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return ["--dataset-name", "custom", "--dataset-path", path, "--custom-output-len", 9]


def test_prompts_of_json_lines_come_again_where_they_are_too_few(tokenizer, tmp_path):
    words = [*custom(tmp_path / "a.jsonl", "one", "two"), "--skip-chat-template"]
    words += ["--disable-shuffle", "--num-prompts", 3]
    found = samples(tokenizer, *words)
    assert [sample.prompt for sample in found] == ["one", "two", "one"]
    assert {(sample.prompt_len, sample.output_len) for sample in found} == {
        (len(tokenizer.encode("one")), 9)
    }
    assert len(samples(tokenizer, *words, "--no-oversample")) == 2


def test_only_a_newline_ends_a_line_of_json(tokenizer, tmp_path):
    words = [*custom(tmp_path / "a.jsonl"), "--skip-chat-template", "--num-prompts", 1]
    raw = json.dumps({"prompt": "one\u2028two\x85three"}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_bytes(raw.encode() + b"\r\n")
    (sample,) = samples(tokenizer, *words)
    assert sample.prompt == "one\u2028two\x85three"


def test_prompts_of_json_lines_are_what_a_user_says(chat_model, tmp_path):
    own = Tokenizer(chat_model.folder)
    (sample,) = samples(own, *custom(tmp_path / "a.jsonl", "the cat"), "--num-prompts", 1)
    text = own.apply_chat_template([{"role": "user", "content": "the cat"}])
    assert sample.prompt == own.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("text", ["", "{}\n", "the cat\n", "[1]\n"])
def test_files_that_hold_no_prompts(tokenizer, tmp_path, text):
    words = custom(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(
        ValueError, match=r"--dataset-path: .*a\.jsonl (has no|must have lines like) "
    ):
        samples(tokenizer, *words, "--skip-chat-template")


def test_text_needs_a_tokenizer(tmp_path):
    with pytest.raises(ValueError, match="is text, which needs a tokenizer"):
        samples(TokensAlone(100), *custom(tmp_path / "a.jsonl", "one"))
    assert len(samples(TokensAlone(100), "--num-prompts", 2)) == 2
