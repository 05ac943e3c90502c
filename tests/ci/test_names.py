"""Names of wheels and their places, against the table of the design and packaging."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import parse_wheel_filename

from ci import names
from ci.matrix import Matrix

SHA = "0123456789" * 4


def test_the_documented_names(the_matrix: Matrix) -> None:
    assert (
        names.abi3_wheel_name(the_matrix, "0.5.4") == "vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl"
    )
    assert (
        names.abi3_wheel_name(the_matrix, "0.5.4+cu118")
        == "vllm-0.5.4+cu118-cp38-abi3-manylinux1_x86_64.whl"
    )
    python = names.python_tag("3.10")
    assert (
        names.wheel_name("0.4.0+cu118", python, python, the_matrix.main.tag)
        == "vllm-0.4.0+cu118-cp310-cp310-manylinux1_x86_64.whl"
    )


@pytest.mark.parametrize("version", ["0.5.4", "0.5.4+cu118", "0.5.5.dev3+gabcdef012.cu118"])
def test_installers_read_the_names(the_matrix: Matrix, version: str) -> None:
    name, said, _, tags = parse_wheel_filename(names.abi3_wheel_name(the_matrix, version))
    assert (name, str(said)) == ("vllm", version)
    assert {str(tag) for tag in tags} == {"cp38-abi3-manylinux1_x86_64"}


def test_the_documented_places(the_matrix: Matrix) -> None:
    assert names.commit_key(SHA, "a.whl") == f"{SHA}/a.whl"
    assert names.nightly_key("a.whl") == "nightly/a.whl"
    assert names.release_key("0.4.0", "a.whl") == "releases/download/v0.4.0/a.whl"
    assert names.index_keys(the_matrix.variant("cu118"), SHA) == {
        "releases": "whl/cu118/vllm/",
        "nightlies": "whl/nightly/cu118/vllm/",
        "nightly": "nightly/cu118/vllm/",
        "commit": f"{SHA}/cu118/vllm/",
    }


def test_a_plus_is_written_so_that_s3_reads_one() -> None:
    assert names.url("http://h/", "nightly/v+cu118.whl") == "http://h/nightly/v%2Bcu118.whl"


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_an_address_leads_to_its_key(key: str) -> None:
    address = names.url("http://h", key)
    assert unquote(address[len("http://h/") :]) == key
    assert "+" not in address
