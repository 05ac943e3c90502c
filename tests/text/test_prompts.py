"""The forms in which a prompt may come."""

from __future__ import annotations

from array import array

import pytest

from vllm.text.prompts import as_prompts, cache_salt_of, chat_prompt, check_length, encode_prompt


def encoded(prompt):
    return encode_prompt(prompt, None, vocab_size=100, max_model_len=50)[1]


class Pairs:
    """A tokenizer with a token for each two characters."""

    def __init__(self):
        self.asked = []

    def encode(self, text, add_special_tokens=True):
        return [*([1] if add_special_tokens else []), *([7] * (len(text) // 2))]

    def fewest_tokens(self, text):
        self.asked.append(text)
        return len(text) // 2

    def apply_chat_template(self, messages, *, template, **options):
        return f"{messages} {template} {options}"


def test_text_is_encoded_and_kept():
    def both(prompt):
        return encode_prompt(prompt, Pairs(), vocab_size=100, max_model_len=50)

    assert both("abcd") == both({"prompt": "abcd"}) == ("abcd", [1, 7, 7])
    assert both({"prompt": "abcd", "prompt_token_ids": [5]}) == ("abcd", [5])
    assert both({"prompt_token_ids": [5], "cache_salt": "mine"}) == (None, [5])
    with pytest.raises(ValueError, match="the prompt is empty"):
        both("")
    with pytest.raises(ValueError, match="this engine has no tokenizer"):
        encoded("abcd")


def test_a_prompt_leaves_room_for_one_token():
    assert encoded([0, 99] + [5] * 47) == [0, 99] + [5] * 47
    with pytest.raises(ValueError, match=r"it has 50 tokens, .* maximum context length is 50"):
        encoded([5] * 50)
    tokenizer = Pairs()
    check_length("a" * 49, tokenizer, 50)
    assert tokenizer.asked == []  # a character is a token at most
    check_length("a" * 99, tokenizer, 50)
    with pytest.raises(ValueError, match=r"100 characters, which are at least 50 tokens, .* is 50"):
        encode_prompt("a" * 100, tokenizer, vocab_size=100, max_model_len=50)


def test_a_conversation_has_the_special_tokens_of_its_template():
    prompt = chat_prompt(Pairs(), "hi", chat_template="mine", tools=[])
    text = "hi mine {'tools': []}"
    assert prompt == {"prompt": text, "prompt_token_ids": [7] * (len(text) // 2)}
    with pytest.raises(ValueError, match="this engine has no tokenizer"):
        chat_prompt(None, "hi")


def test_a_cache_salt_is_text():
    assert [cache_salt_of(prompt) for prompt in ("a", {"prompt": "a"})] == ["", ""]
    assert cache_salt_of({"prompt": "a", "cache_salt": "mine"}) == "mine"
    for salt in ("", 5):
        with pytest.raises(ValueError, match="cache_salt must be a non-empty text"):
            cache_salt_of({"prompt": "a", "cache_salt": salt})


def test_token_ids_of_any_kind_become_python_s_integers():
    forms = [[1, 2], (1, 2), range(1, 3), array("i", [1, 2]), iter([1, 2])]
    for module, make in (("numpy", "array"), ("torch", "tensor")):
        try:
            make_one = getattr(__import__(module), make)
        except ImportError:  # the library runs without
            continue
        forms += [make_one([1, 2]), list(make_one([1, 2])), {"prompt_token_ids": make_one([1, 2])}]
    for form in forms:
        (prompt,) = as_prompts(form)
        ids = encoded(prompt)
        assert ids == [1, 2]
        assert [type(token) for token in ids] == [int, int]


def test_several_prompts_in_one_array():
    np = pytest.importorskip("numpy")
    assert as_prompts(np.array([[1, 2], [3, 4]])) == [[1, 2], [3, 4]]
    assert as_prompts(["a", "b"]) == ["a", "b"]
    assert as_prompts([]) == []


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([1, 100], r"prompt token 1 must be an integer in \[0, 100\), got 100"),
        ([-1], r"prompt token 0 must be an integer in \[0, 100\), got -1"),
        ({}, r"'prompt', 'prompt_token_ids' or both, got \[\]"),
        ({"prompt": 5}, "'prompt' of a prompt mapping is text, got 5"),
        ([1, True], "prompt token 1 must be an integer .*, got True"),
        ([1.0], "prompt token 0 must be an integer .*, got 1.0"),
        ({1, 2}, "a prompt is text, token ids or a mapping, got set"),
        (b"ab", "a prompt is text, token ids or a mapping, got bytes"),
        ({"prompt_token_ids": "ab"}, "'prompt_token_ids' is token ids, got str"),
        ([], "the prompt is empty"),
        (
            {"prompt_token_ids": [1], "multi_modal_data": {"image": None}},
            "'multi_modal_data' of a prompt mapping is not supported: models take text only",
        ),
        ({"prompt_embeds": [[0.5]]}, "'prompt_embeds' of a prompt mapping is not supported: "),
        ({"prompt_token_ids": [1], "other": None}, r"got \['other', 'prompt_token_ids'\]"),
    ],
)
def test_refusals(prompt, message):
    with pytest.raises(ValueError, match=message):
        encoded(prompt)


def test_what_vllms_prompts_have_beside_text_may_be_none():
    assert encoded({"prompt_token_ids": [1], "multi_modal_data": None}) == [1]


def test_an_array_without_items_in_an_order():
    np = pytest.importorskip("numpy")
    with pytest.raises(ValueError, match="prompts must be text, token ids, a mapping"):
        as_prompts(np.array(5))
