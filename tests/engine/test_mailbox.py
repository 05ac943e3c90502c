"""Outputs that nobody has read yet become one."""

from __future__ import annotations

import asyncio

from vllm.engine.mailbox import Mailbox, join_deltas
from vllm.outputs import CompletionOutput, Logprob, RequestMetrics, RequestOutput
from vllm.sampling_params import RequestOutputKind


def output(*parts, finished=False):
    return RequestOutput("r", None, [1], list(parts), finished, RequestMetrics(0.0))


def of_token(token, *, finished=False):
    return output(CompletionOutput(0, str(token), [token]), finished=finished)


def read(kind, *news, times=1):
    """The tokens of each of the next outputs, the error among them; whether each was the last."""

    async def run():
        mailbox = Mailbox(asyncio.get_running_loop(), kind)
        assert not mailbox.finished
        reader = asyncio.ensure_future(mailbox.get())
        await asyncio.sleep(0)
        assert not reader.done()  # there is nothing yet
        for each in news:
            assert mailbox.deliver(each)
        found = []
        for _ in range(times):
            try:
                got = await (mailbox.get() if found else reader)
                found.append((got.outputs[0].token_ids, mailbox.finished))
            except ArithmeticError as error:
                found.append((str(error), mailbox.finished))
        return found

    return asyncio.run(asyncio.wait_for(run(), 20))


def test_unread_deltas_become_one_and_of_whole_outputs_the_newest_counts():
    news = of_token(1), of_token(2), of_token(3, finished=True)
    assert read(RequestOutputKind.DELTA, *news) == [([1, 2, 3], True)]
    assert read(RequestOutputKind.CUMULATIVE, *news) == [([3], True)]


def test_what_was_read_is_not_read_again():
    async def run():
        mailbox = Mailbox(asyncio.get_running_loop(), RequestOutputKind.DELTA)
        for token in (1, 2):
            mailbox.deliver(of_token(token))
            assert (await mailbox.get()).outputs[0].token_ids == [token]
            assert not mailbox.finished
        reader = asyncio.ensure_future(mailbox.get())
        await asyncio.sleep(0)
        assert not reader.done()
        reader.cancel()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_an_error_comes_behind_the_output_and_stays_the_first():
    news = of_token(1), ArithmeticError("first"), ArithmeticError("second")
    expected = [([1], False), ("first", True), ("first", True)]
    assert read(RequestOutputKind.DELTA, *news, times=3) == expected


def test_nobody_reads_in_a_closed_loop():
    loop = asyncio.new_event_loop()

    async def make():  # 3.8 ties an event to the running loop
        return Mailbox(loop, RequestOutputKind.DELTA)

    mailbox = loop.run_until_complete(make())
    loop.close()
    assert mailbox.deliver(of_token(1)) is False


def test_deltas_are_joined_by_continuation():
    def part(index, tokens, reason=None):
        logprobs = [{token: Logprob(-1.0, 1)} for token in tokens]
        text = "".join(map(str, tokens))
        return CompletionOutput(index, text, tokens, -1.0, logprobs, reason)

    joined = join_deltas(
        output(part(0, [1, 2]), part(2, [7])), output(part(1, [5]), part(0, [3], "stop"))
    )
    assert [each.index for each in joined.outputs] == [0, 1, 2]
    assert [each.token_ids for each in joined.outputs] == [[1, 2, 3], [5], [7]]
    assert [each.text for each in joined.outputs] == ["123", "5", "7"]
    assert [len(each.logprobs) for each in joined.outputs] == [3, 1, 1]
    assert joined.outputs[0].finish_reason == "stop"
