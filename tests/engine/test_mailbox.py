"""Outputs that nobody has read yet become one."""

from __future__ import annotations

from vllm.engine.mailbox import join_deltas
from vllm.outputs import CompletionOutput, Logprob, RequestMetrics, RequestOutput


def test_deltas_are_joined_by_continuation():
    def output(*parts, finished=False):
        return RequestOutput("r", None, [1], list(parts), finished, RequestMetrics(0.0))

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
