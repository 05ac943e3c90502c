"""The time line of a step, drawn from a profiler's trace."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def timeline(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "cuda_step_timeline", raising=False)
    import cuda_step_timeline

    return cuda_step_timeline


def seen(step, kernels):
    """Ten steps of so many microseconds, with kernels at these times of each."""
    host, device = [], []
    for start in range(0, 10 * step, step):
        host += [("schedule", start, start + 5.0), ("wait", start + 20.0, start + step - 1.0)]
        device += [("kernel", start + begin, start + end) for begin, end in kernels]
    return host, device


def test_two_steps_of_the_middle_are_cut_out(timeline):
    found = timeline.cut(*seen(100, [(10, 40), (30, 60), (60, 90)]))
    assert found["microseconds"] == 200
    assert [name for name, *_ in found["host"]] == ["schedule", "wait"] * 2
    assert found["host"][0] == ("schedule", 0.0, 5.0)
    assert len(found["device"]) == 6
    assert found["busy"] == pytest.approx(0.8, abs=0.05)  # overlapping kernels count once


def test_what_reaches_into_the_picture_is_cut_at_its_edge(timeline):
    host, device = seen(100, [(90, 110)])
    found = timeline.cut(host, device)
    assert found["device"] == [("kernel", 0.0, 10.0), ("kernel", 90.0, 110.0), ("kernel", 190, 200)]


def test_a_picture_has_every_span(timeline):
    ways = {name: timeline.cut(*seen(step, [(10, 40)])) for name, step in (("a", 100), ("b", 60))}
    svg = timeline.draw({"batch": 3, "model": "small", "ways": ways})
    root = ElementTree.fromstring(svg)
    boxes = root.findall("{http://www.w3.org/2000/svg}rect")
    spans = sum(len(way["host"]) + len(way["device"]) for way in ways.values())
    assert len(boxes) == 1 + spans + len(timeline.COLORS)
    assert "Two decode steps of 3 sequences, small" in svg
