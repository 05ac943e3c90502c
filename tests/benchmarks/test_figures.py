"""Figures in README and docs equal those of the records."""

from __future__ import annotations

import pytest

from benchmarks.figures import parts
from benchmarks.figures.documents import DOCUMENTS, marked, refreshed


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_have_the_figures_of_the_records(document):
    text = document.read_text(encoding="utf-8")
    new = refreshed(text)
    assert text == new, "run: python -m benchmarks.figures"


def test_every_part_stands_in_exactly_one_document():
    found = [name for path in DOCUMENTS for name in marked(path.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(parts.PARTS)


def test_a_stale_figure_is_rewritten():
    text = "before\n<!-- figures: cpu_throughput -->\nold\n<!-- end of figures -->\nafter\n"
    new = refreshed(text)
    assert "old" not in new
    assert marked(new)["cpu_throughput"] == parts.PARTS["cpu_throughput"]()
    assert (new.startswith("before\n"), new.endswith("\nafter\n")) == (True, True)


def test_an_unknown_part_is_an_error():
    with pytest.raises(KeyError, match="no_such_part"):
        refreshed("<!-- figures: no_such_part -->\n<!-- end of figures -->\n")
