"""A model's tokenizer and chat templates."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional
from typing import Sequence as SequenceOf

from tokenizers import Tokenizer as _Backend

from vllm.config import ModelError, hint, is_present, read_json
from vllm.text.chat_template import ChatTemplates
from vllm.text.detokenizer import IncrementalDetokenizer
from vllm.text.messages import Message, plain
from vllm.text.token_bytes import TokenBytes
from vllm.text.token_count import TokenCount

# A longer text is encoded by a thread of the library, without Python's lock: that takes long enough
# to hold up the other threads of this process.
_SHORT_TEXT = 1024


class Tokenizer:
    """The tokenizer of a model folder: `tokenizer.json` and the files that belong to it.

    folder: the model folder.
    token_bytes: the bytes that each token adds to a text.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "tokenizer.json"
        if not is_present(path):
            raise ModelError(
                f"{folder} has no tokenizer.json; a SentencePiece tokenizer.model alone must be "
                f"converted first, for example by save_pretrained of transformers. To work with "
                f"token ids only, set skip_tokenizer_init"
            )
        try:
            self._backend: Any = _Backend.from_file(str(path))
        except Exception as error:
            raise ModelError(f"{path} cannot be read: {error}{hint(path)}") from error
        try:
            self.token_bytes = TokenBytes(self._backend)
        except ValueError as error:
            raise ModelError(f"{path} cannot be used: {error}") from error
        # A file may enable truncation and padding, which are for training.
        self._backend.no_truncation()
        self._backend.no_padding()
        config_path = folder / "tokenizer_config.json"
        config = read_json(config_path) if is_present(config_path) else {}
        self._special_tokens = _special_tokens(config)
        self._templates = ChatTemplates.read(folder, config)

    @functools.cached_property
    def _token_count(self) -> TokenCount:
        return TokenCount(self._backend)

    @property
    def vocab_size(self) -> int:
        """The number of tokens, added ones included."""
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str, *, add_special_tokens: bool = True) -> List[int]:
        """Encodes a text. add_special_tokens: add the tokens that this model has around every text.

        Raises ValueError for a lone surrogate, which Python uses for input that is not UTF-8.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text is not Unicode: character {error.start} is {text[error.start]!r}"
            ) from error
        if len(text) <= _SHORT_TEXT:
            encoding = self._backend.encode(text, add_special_tokens=add_special_tokens)
        else:
            (encoding,) = self._backend.encode_batch_fast(
                [text], add_special_tokens=add_special_tokens
            )
        return list(encoding.ids)

    def fewest_tokens(self, text: str) -> int:
        """A number of tokens that the text has at least, without encoding it; 0 if no such number
        is known for this tokenizer."""
        return self._token_count.fewest(text)

    def decode(self, token_ids: SequenceOf[int], *, skip_special_tokens: bool = True) -> str:
        """Decodes token ids; the same text as an incremental detokenizer gives."""
        detokenizer = self.detokenizer(skip_special_tokens=skip_special_tokens)
        return detokenizer.append(token_ids) + detokenizer.flush()

    def detokenizer(
        self, prompt_token_ids: SequenceOf[int] = (), *, skip_special_tokens: bool = True
    ) -> IncrementalDetokenizer:
        """An incremental detokenizer for tokens that follow a prompt."""
        return IncrementalDetokenizer(
            self.token_bytes, prompt_token_ids, skip_special_tokens=skip_special_tokens
        )

    def token_text(self, token_id: int) -> str:
        """The text of a token; bytes of an incomplete character become U+FFFD."""
        return self.token_bytes[token_id].decode(errors="replace")

    def apply_chat_template(
        self,
        messages: SequenceOf[Message],
        /,
        *,
        template: Optional[str] = None,
        tools: Optional[SequenceOf[Mapping[str, Any]]] = None,
        documents: Optional[SequenceOf[Mapping[str, Any]]] = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **variables: Any,
    ) -> str:
        """The prompt for a conversation, special tokens included.

        template: the name of one of the model's templates, or Jinja source to use instead.
        tools, documents: JSON schemas of callable functions, and texts the model may quote.
        add_generation_prompt: append the start of the assistant's turn.
        continue_final_message: end with the text of the last message, for the model to continue it.
        variables: further variables of the template, such as `enable_thinking`.
        Raises ValueError if there is no template, or if it refuses these messages.
        """
        chosen = self._templates.choose(template, has_tools=tools is not None)
        return chosen.render(
            messages,
            continue_final_message=continue_final_message,
            **{
                **self._special_tokens,
                **variables,
                "tools": _mappings("tools", tools),
                "documents": _mappings("documents", documents),
                "add_generation_prompt": add_generation_prompt,
            },
        )


def _mappings(name: str, given: Optional[SequenceOf[Any]]) -> Optional[List[Any]]:
    """A list of JSON objects, or None."""
    if given is None:
        return None
    listed = [] if isinstance(given, (str, Mapping)) else [plain(item) for item in given]
    if isinstance(given, (str, Mapping)) or not all(isinstance(item, dict) for item in listed):
        raise ValueError(
            f"{name} must be a list of mappings (of a tool, its JSON schema), got {given!r}"
        )
    return listed


def _special_tokens(config: Mapping[str, Any]) -> Dict[str, str]:
    """`bos_token`, `eos_token` and so on, which templates refer to by these names."""
    tokens = {}
    for name, value in config.items():
        if name.endswith("_token"):
            content = value.get("content") if isinstance(value, dict) else value
            if isinstance(content, str):
                tokens[name] = content
    return tokens
