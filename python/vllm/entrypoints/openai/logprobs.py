"""Log-probabilities in OpenAI's two formats, and in vLLM's format for prompts."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional
from typing import Sequence as SequenceOf

from vllm.entrypoints.openai.protocol.chat import ChatLogprob, ChatLogprobs, TokenLogprob
from vllm.entrypoints.openai.protocol.completions import (
    CompletionLogprobs,
    PromptLogprob,
    PromptLogprobs,
)
from vllm.outputs import Logprob, TokenLogprobs
from vllm.text.token_bytes import TokenBytes

# JSON has no infinity: like vLLM, send this for a token of probability 0.
_LOWEST = -9999.0


class CompletionLogprobsBuilder:
    """Log-probabilities of one completion, built incrementally: text offsets continue.

    text_of: returns a token's text, for tokens without a log-probability entry.
    """

    def __init__(self, text_of: Callable[[int], str], *, as_ids: bool) -> None:
        self._text_of = text_of
        self._as_ids = as_ids
        self._offset = 0

    def build(
        self,
        token_ids: SequenceOf[int],
        entries: SequenceOf[Optional[TokenLogprobs]],
        num_best: int,
    ) -> CompletionLogprobs:
        """entries: one per token; None for a token that no other precedes."""
        found = CompletionLogprobs(text_offset=[], token_logprobs=[], tokens=[], top_logprobs=[])
        for token, entry in zip(token_ids, entries):
            own = entry[token] if entry is not None else None
            text = self._text(token, own)
            found.tokens.append(text)
            found.text_offset.append(self._offset)
            self._offset += len(text)
            found.token_logprobs.append(None if own is None else _finite(own))
            found.top_logprobs.append(None if entry is None else self._best(entry, num_best))
        return found

    def _best(self, entry: TokenLogprobs, num_best: int) -> Dict[str, float]:
        """The token of the sequence, and the most likely ones."""
        return {
            self._text(token, logprob): _finite(logprob)
            for place, (token, logprob) in enumerate(entry.items())
            if place == 0 or logprob.rank <= num_best
        }

    def _text(self, token: int, logprob: Optional[Logprob]) -> str:
        if logprob is None and not self._as_ids:
            return self._text_of(token)
        return token_text(token, logprob, as_ids=self._as_ids)


def of_chat(
    token_ids: SequenceOf[int],
    entries: SequenceOf[TokenLogprobs],
    num_best: int,
    bytes_of: TokenBytes,
    *,
    as_ids: bool,
) -> ChatLogprobs:
    """One entry per token, in the format of chat completions."""

    def fields(token: int, logprob: Logprob) -> Dict[str, Any]:
        return {
            "token": token_text(token, logprob, as_ids=as_ids),
            "logprob": _finite(logprob),
            "bytes": list(bytes_of[token]),
        }

    content = []
    for token, entry in zip(token_ids, entries):
        best = [
            TokenLogprob(**fields(other, logprob))
            for other, logprob in sorted(entry.items(), key=lambda item: item[1].rank)
            if logprob.rank <= num_best
        ]
        own = fields(token, entry[token])
        content.append(ChatLogprob(**own, top_logprobs=best[:num_best]))
    return ChatLogprobs(content=content)


def of_prompt(entries: Optional[List[Optional[TokenLogprobs]]]) -> Optional[PromptLogprobs]:
    """vLLM's format: for each position of the prompt, a mapping by token id."""
    if entries is None:
        return None
    return [entry if entry is None else _by_token(entry) for entry in entries]


def token_text(token: int, logprob: Optional[Logprob], *, as_ids: bool) -> str:
    """A token's text, or "token_id:N" with `as_ids` or if the text is unknown."""
    if as_ids or logprob is None or logprob.decoded_token is None:
        return f"token_id:{token}"
    return logprob.decoded_token


def _by_token(entry: TokenLogprobs) -> Dict[int, PromptLogprob]:
    return {
        token: PromptLogprob(
            logprob=_finite(logprob), rank=logprob.rank, decoded_token=logprob.decoded_token
        )
        for token, logprob in entry.items()
    }


def _finite(logprob: Logprob) -> float:
    return max(logprob.logprob, _LOWEST)
