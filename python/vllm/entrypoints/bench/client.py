"""Sends requests to a server, and records when the parts of the answers arrive."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, AsyncIterator, Dict, List, Mapping, Optional

from vllm.entrypoints.bench.datasets import SampleRequest

if TYPE_CHECKING:
    import httpx


@dataclass
class Result:
    """The timing of one request, in seconds.

    sent: when it was sent, by `time.perf_counter`.
    first: time to the first token, None if there was none.
    between: times between consecutive events with tokens.
    whole: time to the end of the answer.
    error: the error message, None if it succeeded.
    """

    prompt_len: int
    sent: float
    first: Optional[float] = None
    between: List[float] = field(default_factory=list)
    whole: float = 0.0
    output_len: int = 0
    text: str = ""
    error: Optional[str] = None

    @property
    def per_token(self) -> float:
        """Seconds per token after the first."""
        if self.first is None or self.output_len < 2:
            return 0.0
        return (self.whole - self.first) / (self.output_len - 1)


class Endpoint:
    """The URL of the requests, and everything in them except the prompt.

    is_chat: whether it takes messages instead of a prompt.
    fields: further fields of every request's body.
    id_prefix: prefix of each request's X-Request-Id, before its number; None: not sent.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        *,
        is_chat: bool,
        fields: Mapping[str, Any],
        id_prefix: Optional[str] = None,
    ) -> None:
        self._client = client
        self._url = url
        self._is_chat = is_chat
        self._fields = fields
        self._id_prefix = id_prefix
        self._numbers = itertools.count()

    def body(self, sample: SampleRequest) -> Dict[str, Any]:
        """The JSON of a request."""
        asked: Dict[str, Any] = {"prompt": sample.prompt, "max_tokens": sample.output_len}
        if self._is_chat:
            messages = [{"role": "user", "content": sample.prompt}]
            asked = {"messages": messages, "max_completion_tokens": sample.output_len}
        options = {"include_usage": True}
        return {**asked, "stream": True, "stream_options": options, **self._fields}

    async def ask(self, sample: SampleRequest) -> Result:
        """Sends a request and reads its whole answer."""
        import httpx

        headers = {}
        if self._id_prefix is not None:
            headers["X-Request-Id"] = f"{self._id_prefix}{next(self._numbers)}"
        body = self.body(sample)
        result = Result(sample.prompt_len, time.perf_counter())
        try:
            sent = self._client.stream("POST", self._url, json=body, headers=headers)
            async with sent as response:
                if response.status_code != 200:
                    await response.aread()
                    result.error = f"{response.status_code}: {response.text[:500]}"
                    return result
                await self._read(response, result)
        except httpx.HTTPError as error:
            result.error = f"{type(error).__name__}: {error}"
        except (LookupError, TypeError, ValueError) as error:
            result.error = f"{self._url} sent an event that OpenAI's API does not have: {error!r}"
        return result

    async def _read(self, response: httpx.Response, result: Result) -> None:
        last = result.sent
        is_whole = False
        async for line in _lines(response):
            is_whole = is_whole or line == "data: [DONE]"
            if is_whole or not line.startswith("data: "):
                continue
            now = time.perf_counter()
            event = json.loads(line[len("data: ") :])
            if "error" in event:
                result.error = str(event["error"])
                return
            if event.get("usage"):
                result.output_len = event["usage"]["completion_tokens"]
            text = self._text(event)
            if text is None:
                continue
            if result.first is None:
                result.first = now - last
            else:
                result.between.append(now - last)
            last = now
            result.text += text
        if not is_whole:
            result.error = "the stream ended before its last event"
            return
        result.whole = time.perf_counter() - result.sent
        result.output_len = result.output_len or len(result.between) + 1

    def _text(self, event: Mapping[str, Any]) -> Optional[str]:
        """The text of an event; None if it has no token."""
        if not event["choices"]:
            return None
        choice = event["choices"][0]
        if not self._is_chat:
            return str(choice["text"])
        delta = choice["delta"]  # the first one has only the role
        for name in ("content", "reasoning", "reasoning_content"):
            if delta.get(name):
                return str(delta[name])
        return None


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """The lines of a stream of events.

    httpx's `aiter_lines` also splits at U+0085, U+2028 and others, which strings in JSON may have.
    """
    rest = b""
    async for data in response.aiter_bytes():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r").decode()
    if rest:
        yield rest.decode()
