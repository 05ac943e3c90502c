"""`priority` of requests by OpenAI's client: what waits in the engine, and in which order."""

from __future__ import annotations

import concurrent.futures
import threading

import openai

from tests.entrypoints.openai.support import running
from tests.waiting import PATIENCE, until

HI = [{"role": "user", "content": "hi"}]


def test_the_lowest_number_waits_in_front(chat_model, monkeypatch):
    fields = {"max_num_seqs": 1, "scheduling_policy": "priority"}
    with (
        running(chat_model.folder, engine=fields) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
        concurrent.futures.ThreadPoolExecutor() as threads,
    ):
        engine, go, seen = server.engine.engine, threading.Event(), []
        one_step = engine.step

        def step():
            assert go.wait(PATIENCE)
            seen.append([seq.priority for seq in engine.scheduler.waiting])
            return one_step()

        def ask(count, priority):
            create = client.completions.create if count % 2 else client.chat.completions.create
            about = {"prompt": "hi"} if count % 2 else {"messages": HI}
            more = {} if priority is None else {"extra_body": {"priority": priority}}
            return threads.submit(create, model="tiny", max_tokens=20, **about, **more)

        monkeypatch.setattr(engine, "step", step)
        answers = [ask(count, priority) for count, priority in enumerate((2, None, -1, 0))]
        readers = server.engine._readers
        until(
            lambda: len(readers) == 4 and None not in list(readers.values()), "one is not asked for"
        )
        go.set()
        assert all(answer.result().usage.completion_tokens for answer in answers)
        assert server.post("/v1/completions", prompt="a", priority=0.5).status_code == 400
    assert all(each == sorted(each) for each in seen)
    # Whoever came first runs already; all others wait behind it, until they get their turn.
    behind = max(seen, key=len)
    assert len(behind) >= 3
    assert set(behind) <= {-1, 0, 2}
