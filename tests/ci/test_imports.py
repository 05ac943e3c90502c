"""The tool's modules import each other in one direction only."""

from __future__ import annotations

import graphlib

import grimp


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = grimp.build_graph("ci", cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    order = tuple(graphlib.TopologicalSorter(imports).static_order())
    assert order.index("ci.index.records") < order.index("ci.index.pages")
