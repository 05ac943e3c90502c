"""The tables in docs/serving.md match the code."""

from __future__ import annotations

from tests.entrypoints.openai import table


def test_the_table_of_parameters_is_that_of_the_code():
    assert table.TABLE.text() == table.render(), "run python -m tests.entrypoints.openai.table"
