"""The store of responses stays within its limits."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from vllm.entrypoints.openai.protocol.responses import ResponseAnswer
from vllm.entrypoints.openai.response_store import ResponseStore, StoredResponse

MAX_COUNT, MAX_BYTES, MAX_AGE = 4, 3000, 10
OWNERS = st.sampled_from([b"mine", b"yours"])


def response(number, owner, length):
    answer = ResponseAnswer(
        id=f"resp_{number}",
        created_at=0,
        status="completed",
        background=False,
        model="tiny",
        parallel_tool_calls=True,
        store=True,
        text={},
        tool_choice="auto",
        tools=[],
    )
    return StoredResponse(owner, answer, ({"role": "user", "content": "x" * length},))


class StoreMachine(RuleBasedStateMachine):
    """Beside a plain list of what was put: the newest of it that fit are there."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.put = []  # (when, response), the oldest first
        self.gone = []
        self.count = 0
        self.store = ResponseStore(MAX_COUNT, MAX_BYTES, MAX_AGE, lambda: self.now)

    @rule(owner=OWNERS, length=st.sampled_from([0, 100, 1500, 5000]))
    def add(self, owner, length):
        self.count += 1
        made = response(self.count, owner, length)
        self.store.put(made)
        if made.num_bytes <= MAX_BYTES:
            self.put.append((self.now, made))
        else:
            self.gone.append(made)

    @rule(seconds=st.sampled_from([1, 6, 11]))
    def wait(self, seconds):
        self.now += seconds

    @rule(data=st.data(), owner=OWNERS)
    def delete(self, data, owner):
        if self.put:
            entry = data.draw(st.sampled_from(self.put))
            there = entry[1].owner == owner
            assert self.store.delete(entry[1].answer.id, owner) == there
            if there:
                self.put.remove(entry)
                self.gone.append(entry[1])

    @invariant()
    def the_newest_are_there_for_their_owners(self):
        kept, size = [], 0
        for when, made in reversed(self.put):
            size += made.num_bytes
            if len(kept) == MAX_COUNT or size > MAX_BYTES or self.now - when > MAX_AGE:
                break
            kept.insert(0, (when, made))
        self.gone += [made for _, made in self.put[: len(self.put) - len(kept)]]
        self.put = kept
        for owner in (b"mine", b"yours"):
            for made in self.gone:
                assert self.store.get(made.answer.id, owner) is None
            for _, made in kept:
                found = self.store.get(made.answer.id, owner)
                assert found is (made if made.owner == owner else None)
        assert len(self.store) == len(kept)
        assert self.store.num_bytes == sum(made.num_bytes for _, made in kept)


TestStore = StoreMachine.TestCase
