"""What an engine's process gets in one message, and in which order."""

from __future__ import annotations

import asyncio

import pytest
import zmq

from vllm.engine_process.connection import EngineConnection
from vllm.engine_process.messages import (
    TO_ENGINE,
    Abort,
    Add,
    Requests,
    decode_to_engine,
    encoder,
)


def request(number):
    return Add([number], b"", b"\x80", [0], final_only=True)


def run(folder, use):
    """The messages that the engine gets when `await use(connection)` has returned."""

    async def using():
        connection = EngineConnection(folder, asyncio.get_running_loop().create_future())
        context = zmq.Context()
        engine = context.socket(zmq.PULL)
        engine.connect(f"ipc://{folder / TO_ENGINE.format(client=0)}")
        engine.rcvtimeo = 60_000
        try:
            # `send` does not wait; this does, until the sockets are connected.
            connection._outbox.send(encoder.encode(Abort([0])))
            engine.recv()
            await use(connection)
            connection.send(Abort([-1]))  # the last one
            messages = []
            while messages[-1:] != [Abort([-1])]:
                messages.append(decode_to_engine(engine.recv()))
            return messages[:-1]
        finally:
            connection.close()
            context.destroy(linger=0)

    return asyncio.run(using())


def numbers(messages):
    return [[add.ids[0] for add in message.adds] for message in messages]


def test_the_first_of_a_turn_is_sent_at_once_and_the_others_together(tmp_path):
    async def use(connection):
        for turn in range(2):
            for number in range(4):
                connection.add(request(10 * turn + number))
            await asyncio.sleep(0)

    assert numbers(run(tmp_path, use)) == [[0], [1, 2, 3], [10], [11, 12, 13]]


def test_none_waits_for_many_others(tmp_path):
    async def use(connection):
        for number in range(20):
            connection.add(request(number))

    assert [len(each) for each in numbers(run(tmp_path, use))] == [1, 8, 8, 3]


def test_a_request_is_sent_before_it_is_cancelled(tmp_path):
    async def use(connection):
        for number in range(3):
            connection.add(request(number))
        connection.send(Abort([2]))
        connection.add(request(3))
        await asyncio.sleep(0)

    assert run(tmp_path, use) == [
        Requests([request(0)]),
        Requests([request(1), request(2)]),
        Abort([2]),
        Requests([request(3)]),
    ]


@pytest.mark.parametrize("count", [1, 3])
def test_the_end_of_a_turn_may_come_after_the_end_of_the_connection(tmp_path, count):
    async def use():
        loop = asyncio.get_running_loop()
        failures = []
        loop.set_exception_handler(lambda loop, context: failures.append(context))
        connection = EngineConnection(tmp_path, loop.create_future())
        for number in range(count):
            connection.add(request(number))
        connection.close()
        await asyncio.sleep(0)
        return failures

    assert asyncio.run(use()) == []
