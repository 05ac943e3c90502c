"""Counts the tokens of a request."""

from __future__ import annotations

from typing import Dict, List

from vllm.entrypoints.openai.protocol.base import PromptTokensDetails, Usage
from vllm.outputs import RequestOutput


class UsageCounter:
    """Counts tokens of the outputs of one or several prompts; outputs of a stream are deltas."""

    def __init__(self) -> None:
        self._prompts: Dict[int, RequestOutput] = {}
        self._num_generated: Dict[int, int] = {}

    def see(self, prompt: int, output: RequestOutput) -> None:
        """prompt: its index in the request."""
        self._prompts[prompt] = output
        self._num_generated[prompt] = self._num_generated.get(prompt, 0) + output.num_tokens

    def usage(self, prompts: List[int]) -> Usage:
        """The usage of these prompts; a prompt counts once, also with several continuations."""
        seen = [self._prompts[prompt] for prompt in prompts if prompt in self._prompts]
        num_prompt = sum(len(output.prompt_token_ids) for output in seen)
        num_generated = sum(self._num_generated[p] for p in prompts if p in self._num_generated)
        # All continuations of a prompt share its tokens: cached ones count once, too.
        cached = sum(min(o.num_cached_tokens, len(o.prompt_token_ids)) for o in seen)
        return Usage(
            prompt_tokens=num_prompt,
            completion_tokens=num_generated,
            total_tokens=num_prompt + num_generated,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=cached),
        )

    def total(self) -> Usage:
        return self.usage(list(self._prompts))
