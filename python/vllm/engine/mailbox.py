"""Carries outputs from the engine's thread to a reader in an event loop."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, Callable, Optional, Union

from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind

News = Union[RequestOutput, Exception]
Reader = Callable[[News], bool]


class Mailbox:
    """Holds the unread output of a request; newer outputs are merged into it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kind: RequestOutputKind) -> None:
        self.finished = False
        self._loop = loop
        self._kind = kind
        self._unread: Optional[RequestOutput] = None
        self._error: Optional[Exception] = None
        self._has_news = asyncio.Event()

    def deliver(self, news: News) -> bool:
        """Called by the engine's thread; False if the reader's event loop is closed."""
        try:
            self._loop.call_soon_threadsafe(self._put, news)
        except RuntimeError:  # the loop is closed
            return False
        return True

    async def get(self) -> RequestOutput:
        """Waits for the next output and returns it; raises the error that ended the request."""
        await self._has_news.wait()
        if self._unread is None:
            assert self._error is not None
            self.finished = True
            raise self._error
        output, self._unread = self._unread, None
        self.finished = output.finished
        if self._error is None:
            self._has_news.clear()
        return output

    def _put(self, news: News) -> None:
        if isinstance(news, Exception):
            self._error = self._error or news  # the first error causes the others
        elif self._unread is None or self._kind is not RequestOutputKind.DELTA:
            self._unread = news
        else:
            self._unread = join_deltas(self._unread, news)
        self._has_news.set()


def join_deltas(old: RequestOutput, new: RequestOutput) -> RequestOutput:
    """Merges two consecutive outputs of kind DELTA into one."""
    by_index = {output.index: output for output in old.outputs}
    for output in new.outputs:
        before = by_index.get(output.index)
        by_index[output.index] = output if before is None else _join(before, output)
    return dataclasses.replace(new, outputs=[by_index[index] for index in sorted(by_index)])


def _join(old: CompletionOutput, new: CompletionOutput) -> CompletionOutput:
    logprobs: Any = new.logprobs
    if old.logprobs is not None and new.logprobs is not None:
        logprobs = old.logprobs + new.logprobs
    return dataclasses.replace(
        new, text=old.text + new.text, token_ids=old.token_ids + new.token_ids, logprobs=logprobs
    )
