"""The responses of a server: those running in the background, and the stored ones."""

from __future__ import annotations

import asyncio
from typing import Any, Dict, List, NamedTuple, Optional

from vllm.entrypoints.openai.errors import ApiError, from_exception
from vllm.entrypoints.openai.front_group import FrontGroup
from vllm.entrypoints.openai.options import ServerOptions
from vllm.entrypoints.openai.protocol.responses import InputItem, ResponseAnswer
from vllm.entrypoints.openai.response_items import as_messages
from vllm.entrypoints.openai.response_run import ResponseRun
from vllm.entrypoints.openai.response_store import ResponseStore, StoredResponse


class Keeper(NamedTuple):
    """A response's owner, and the conversation that it answers, without instructions."""

    owner: bytes
    messages: List[Dict[str, Any]]


class _Running(NamedTuple):
    owner: bytes
    run: ResponseRun
    task: asyncio.Task[None]


class Responses:
    """Running and stored responses of this process. `Admission` limits the number of running ones.

    Of several processes each stores its own responses, within its share of the limits.
    """

    def __init__(self, options: ServerOptions, fronts: FrontGroup) -> None:
        self.store = ResponseStore(
            fronts.share(options.max_stored_responses),
            fronts.share(options.max_stored_response_bytes),
            options.max_stored_response_age,
        )
        self._running: Dict[str, _Running] = {}

    def keep(self, run: ResponseRun, keeper: Keeper) -> None:
        """Stores a response that has ended, unless its `store` is false."""
        answer = run.answer
        if answer.store:
            items = [InputItem.model_validate(item) for item in answer.output]
            messages = (*keeper.messages, *as_messages(items))
            self.store.put(StoredResponse(keeper.owner, answer, messages))

    def start(self, run: ResponseRun, keeper: Keeper) -> None:
        """Computes a response in the background."""
        task = asyncio.ensure_future(self._finish(run, keeper))
        self._running[run.answer.id] = _Running(keeper.owner, run, task)

    async def _finish(self, run: ResponseRun, keeper: Keeper) -> None:
        try:
            await run.finish()
        except asyncio.CancelledError:  # by `cancel`, or because the server ends
            run.answer.status = "cancelled"
        except Exception as error:  # noqa: BLE001 (the response reports it)
            run.fail(from_exception(error))
        finally:
            del self._running[run.answer.id]
            self.keep(run, keeper)

    def find(self, id: str, owner: bytes) -> ResponseAnswer:
        """The current state of a response. Raises ApiError, 404."""
        running = self._running_of(id, owner)
        return running.run.answer if running else self.stored(id, owner).answer

    def stored(self, id: str, owner: bytes, *, param: str = "response_id") -> StoredResponse:
        """A response that has ended. Raises ApiError: 404, or 400 while it has not."""
        if self._running_of(id, owner) is not None:
            raise ApiError(400, f"the response {id!r} has not ended", param=param)
        found = self.store.get(id, owner)
        if found is None:
            raise ApiError(
                404,
                f"there is no response {id[:80]!r}: it was not stored, or was deleted since",
                param=param,
                code="response_not_found",
            )
        return found

    async def cancel(self, id: str, owner: bytes) -> ResponseAnswer:
        """Cancels a background response; one that has ended is returned unchanged."""
        running = self._running_of(id, owner)
        if running is None:
            answer = self.stored(id, owner).answer
            if not answer.background:
                raise ApiError(
                    400, "only a background response can be cancelled", param="response_id"
                )
            return answer
        running.task.cancel()
        await asyncio.wait([running.task])
        return running.run.answer

    async def delete(self, id: str, owner: bytes) -> None:
        """Cancels a response if it runs, and deletes it. Raises ApiError, 404."""
        if self._running_of(id, owner) is not None:
            await self.cancel(id, owner)
        self.stored(id, owner)
        self.store.delete(id, owner)

    def _running_of(self, id: str, owner: bytes) -> Optional[_Running]:
        found = self._running.get(id)
        return found if found is not None and found.owner == owner else None
