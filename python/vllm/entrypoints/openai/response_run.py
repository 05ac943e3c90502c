"""One running response: converts the engine's outputs to items, events and a status."""

from __future__ import annotations

import json
from typing import Any, AsyncGenerator, Dict, Iterator, List, Tuple

from vllm.entrypoints.openai.blocks import Begin, BlockEvent, BlockKind, BlockReader, End, More
from vllm.entrypoints.openai.conversation import Conversation
from vllm.entrypoints.openai.errors import ApiError, from_exception
from vllm.entrypoints.openai.protocol.responses import (
    IncompleteDetails,
    InputTokensDetails,
    OutputTokensDetails,
    ResponseAnswer,
    ResponseError,
    ResponseUsage,
)
from vllm.entrypoints.openai.response_items import begun_item, ended_item, part_of
from vllm.entrypoints.openai.served import Served, in_thread
from vllm.entrypoints.openai.streaming import closing, event
from vllm.outputs import CompletionOutput

Event = Tuple[str, Dict[str, Any]]  # its type, and its other fields

# Event types for a block's text: deltas, and the complete text.
_MORE = {
    BlockKind.TEXT: "response.output_text.delta",
    BlockKind.REASONING: "response.reasoning_text.delta",
    BlockKind.CALL: "response.function_call_arguments.delta",
}
_WHOLE = {
    BlockKind.TEXT: "response.output_text.done",
    BlockKind.REASONING: "response.reasoning_text.done",
    BlockKind.CALL: "response.function_call_arguments.done",
}


class ResponseRun:
    """answer: the current state of the response; its `status` shows whether it has ended."""

    def __init__(self, served: Served, answer: ResponseAnswer, conversation: Conversation) -> None:
        self.answer = answer
        self._served = served
        self._conversation = conversation
        self._blocks = BlockReader(conversation.reader())

    async def finish(self) -> None:
        """Computes the whole response. Raises ApiError."""
        async with closing(self._events()) as events:
            async for _ in events:
                pass

    async def events(self) -> AsyncGenerator[str, None]:
        """The response as a stream. Raises ApiError before the first event; a later error becomes a
        `response.failed` event."""
        number = 0
        try:
            async with closing(self._events()) as events:
                async for kind, fields in events:
                    yield _encoded(kind, number, fields)
                    number += 1
        except Exception as error:
            if not number:
                raise
            self.fail(from_exception(error))
            yield _encoded("response.failed", number, self._shown())

    def fail(self, error: ApiError) -> None:
        default = "server_error" if error.status_code >= 500 else "invalid_prompt"
        self.answer.status = "failed"
        self.answer.error = ResponseError(code=error.code or default, message=error.detail)

    async def _events(self) -> AsyncGenerator[Event, None]:
        last = None
        async with closing(self._conversation.outputs()) as outputs:
            async for output in outputs:
                if last is None:
                    yield "response.created", self._shown()
                    yield "response.in_progress", self._shown()
                (last,) = output.outputs
                for each in self._news(last):
                    yield each
        assert last is not None
        is_cut = last.finish_reason == "length"
        self.answer.status = "incomplete" if is_cut else "completed"
        if is_cut:
            self.answer.incomplete_details = IncompleteDetails(reason="max_output_tokens")
        self.answer.usage = await self._usage()
        yield f"response.{self.answer.status}", self._shown()

    def _news(self, output: CompletionOutput) -> Iterator[Event]:
        news = self._blocks.feed(output.text, is_last=output.finished)
        for place, each in enumerate(news):
            is_cut = output.finish_reason == "length" and place == len(news) - 1
            yield from self._of_block(each, is_whole=not is_cut)

    def _of_block(self, news: BlockEvent, *, is_whole: bool) -> Iterator[Event]:
        block, items = news.block, self.answer.output
        if isinstance(news, Begin):
            items.append(begun_item(block))
        item = items[block.index]
        where = {"output_index": block.index, "item_id": item["id"]}
        part = part_of(block, block.text)
        inside = where if part is None else {**where, "content_index": 0}
        if isinstance(news, Begin):
            yield "response.output_item.added", {"output_index": block.index, "item": item}
            if part is not None:
                yield "response.content_part.added", {**inside, "part": part}
        elif isinstance(news, More):
            extra: Dict[str, Any] = {"logprobs": []} if block.kind is BlockKind.TEXT else {}
            yield _MORE[block.kind], {**inside, "delta": news.text, **extra}
        elif isinstance(news, End):
            items[block.index] = item = ended_item(item, block, is_whole=is_whole)
            if part is None:
                yield _WHOLE[block.kind], {**inside, "name": block.name, "arguments": block.text}
            else:
                extra = {"logprobs": []} if block.kind is BlockKind.TEXT else {}
                yield _WHOLE[block.kind], {**inside, "text": block.text, **extra}
                yield "response.content_part.done", {**inside, "part": part}
            yield "response.output_item.done", {"output_index": block.index, "item": item}

    async def _usage(self) -> ResponseUsage:
        usage = self._conversation.usage.total()
        details = usage.prompt_tokens_details
        thoughts = [b.text for b in self._blocks.blocks if b.kind is BlockKind.REASONING]
        num_thought = await in_thread(lambda: self._num_tokens(thoughts)) if thoughts else 0
        return ResponseUsage(
            input_tokens=usage.prompt_tokens,
            input_tokens_details=InputTokensDetails(
                cached_tokens=details.cached_tokens if details else 0, cache_write_tokens=0
            ),
            output_tokens=usage.completion_tokens,
            output_tokens_details=OutputTokensDetails(reasoning_tokens=num_thought),
            total_tokens=usage.total_tokens,
        )

    def _num_tokens(self, texts: List[str]) -> int:
        tokenizer = self._served.tokenizer
        return sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)

    def _shown(self) -> Dict[str, Any]:
        return {"response": self.answer.model_dump()}


def _encoded(kind: str, number: int, fields: Dict[str, Any]) -> str:
    data = {"type": kind, "sequence_number": number, **fields}
    return event(json.dumps(data, ensure_ascii=False), kind)
