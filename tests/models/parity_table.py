"""The table of docs/engine.md: which features are compared with transformers, for which families.

python -m tests.models.parity_table            runs the tests and writes what came out
python -m tests.models.parity_table --check    says whether the table has every test there is
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

from tests.marked_part import MarkedPart

TESTS = Path(__file__).with_name("test_parity.py")
TABLE = MarkedPart(
    Path(__file__).parents[2] / "docs/engine.md",
    "<!-- parity table -->\n",
    "<!-- end of the parity table -->\n",
)


class Outcomes:
    """A pytest plugin: what came out, by feature and family."""

    def __init__(self) -> None:
        self.cells: Dict[str, Dict[str, str]] = {}
        self._families: Dict[str, None] = {}  # in the order of the first test
        self._place: Dict[str, Tuple[str, str]] = {}

    def pytest_collection_modifyitems(self, items: List[pytest.Item]) -> None:
        for item in items:
            params = item.callspec.params
            name = item.originalname.removeprefix("test_").replace("_", " ")
            feature = f"{name}: {params['feature']}" if "feature" in params else name
            self._place[item.nodeid] = feature, params["family"]
            self._families[params["family"]] = None
            self.cells.setdefault(feature, {})[params["family"]] = "?"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        feature, family = self._place[report.nodeid]
        if report.failed or report.skipped:
            self.cells[feature][family] = "✗"
        elif report.when == "call":
            self.cells[feature][family] = "✓"

    def table(self) -> str:
        rows = [["feature", *self._families], ["---"] * (1 + len(self._families))]
        for feature, by_family in self.cells.items():
            rows.append([feature, *(by_family.get(family, "–") for family in self._families)])
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main(argv: List[str]) -> int:
    outcomes, check = Outcomes(), "--check" in argv
    status = pytest.main([str(TESTS), "-q", *(["--collect-only"] if check else [])], [outcomes])
    if check:
        return int(outcomes.table().replace("?", "✓") != TABLE.text())
    TABLE.write(outcomes.table())
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
