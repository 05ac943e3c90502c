"""The import diagram of docs/architecture.md is that of the code, and has no circle."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

PAGE = Path(__file__).parents[2] / "docs/architecture.md"
PACKAGES = ["vllm", "ci"]
# Under vLLM's names, for scripts that import from there: nothing but other modules' names.
ALIASES = ["vllm.engine.arg_utils", "vllm.engine.async_llm_engine", "vllm.entrypoints.llm"]


def imports(package: str) -> dict[str, set[str]]:
    """What each module or package right below `package` imports of the others."""
    graph = grimp.build_graph(package, cache_dir=None)
    for alias in ALIASES:
        if alias in graph.modules:
            graph.remove_module(alias)
    children = sorted(graph.find_children(package))
    for child in children:
        if graph.find_children(child):
            graph.squash_module(child)
    return {
        child.rpartition(".")[2]: {
            target.rpartition(".")[2]
            for target in graph.find_modules_directly_imported_by(child)
            if target in children and target != child
        }
        for child in children
    }


def diagram(package: str) -> str:
    """A Mermaid graph: an arrow from each importer to what it imports, but for what another
    arrow's target imports anyway."""
    found = imports(package)

    def reaches(start: str, goal: str) -> bool:
        seen, todo = set(), [start]
        while todo:
            fresh = found[todo.pop()] - seen
            seen |= fresh
            todo += fresh
        return goal in seen

    lines = ["graph TD"]
    for name, targets in found.items():
        for target in sorted(targets):
            if not any(reaches(other, target) for other in targets - {target}):
                lines.append(f"  {name} --> {target}")
    return "\n".join(lines)


def require_no_circle(found: dict[str, set[str]]) -> None:
    try:
        list(TopologicalSorter(found).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' → '.join(error.args[1])}")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_imports_in_a_circle(package):
    require_no_circle(imports(package))


@pytest.mark.parametrize("package", [*PACKAGES, "backend"])
def test_no_module_imports_in_a_circle(package):
    """Within packages, too, and counting what only annotations need."""
    graph = grimp.build_graph(package, cache_dir=None)
    found = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert len(found) > 10
    require_no_circle(found)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_page_draws_the_imports(package):
    expected = f"<!-- imports of {package} -->\n```mermaid\n{diagram(package)}\n```\n"
    assert expected in PAGE.read_text(encoding="utf-8"), expected
