"""The bill of materials, against the rules of CycloneDX that matter for reading it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from ci import digest
from ci.matrix import Matrix
from ci.wheel import sbom

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("variant", ["cu118", "cu121"])
def test_it_names_what_went_in(the_matrix: Matrix, variant: str) -> None:
    cuda = the_matrix.variant(variant)
    programs = digest.program_versions(ROOT)
    bill = sbom.document("0.5.4+cu118", cuda, the_matrix.main, programs)
    parts = {(part["name"], part["version"]): part for part in bill["components"]}
    pins = {(pin.project, pin.version): pin for pin in cuda.pins("x86_64")}
    assert set(parts) == {("ziglang", programs["ziglang"]), *pins}
    for name, pin in pins.items():
        assert parts[name]["hashes"] == [{"alg": "SHA-256", "content": pin.sha256}]
    tools = {tool["name"]: tool["version"] for tool in bill["metadata"]["tools"]["components"]}
    assert {**tools, "ziglang": parts["ziglang", programs["ziglang"]]["version"]} == programs


def of_default(the_matrix: Matrix, programs: dict[str, str]) -> dict[str, Any]:
    return sbom.document("0.5.4", the_matrix.default, the_matrix.main, programs)


def test_it_names_the_license_of_each_part(the_matrix: Matrix) -> None:
    bill = sbom.document(
        "0.5.4", the_matrix.default, the_matrix.main, digest.program_versions(ROOT)
    )
    assert bill["metadata"]["component"]["licenses"] == [{"expression": "Apache-2.0"}]
    for part in bill["components"]:
        (license_,) = part["licenses"]
        named = license_.get("expression") or license_["license"]["name"]
        assert "NVIDIA" in named if part["name"].startswith("nvidia") else "LLVM" in named


def test_every_reference_leads_to_a_component(the_matrix: Matrix) -> None:
    bill = sbom.document(
        "0.5.4", the_matrix.default, the_matrix.main, digest.program_versions(ROOT)
    )
    known = {part["bom-ref"] for part in [bill["metadata"]["component"], *bill["components"]]}
    assert {entry["ref"] for entry in bill["dependencies"]} == known
    for entry in bill["dependencies"]:
        assert set(entry.get("dependsOn", [])) <= known


def test_nothing_in_it_changes_from_build_to_build(the_matrix: Matrix) -> None:
    member = sbom.member(
        "0.5.4", the_matrix.default, the_matrix.main, {"ziglang": "1", "cmake": "2"}
    )
    again = sbom.member(
        "0.5.4", the_matrix.default, the_matrix.main, {"cmake": "2", "ziglang": "1"}
    )
    assert member == again
    assert member.name == "vllm-0.5.4.dist-info/sboms/vllm.cdx.json"
    bill = json.loads(member.data)
    assert "serialNumber" not in bill
    assert "timestamp" not in bill["metadata"]


def test_a_local_version_is_quoted_as_a_package_url_wants_it(the_matrix: Matrix) -> None:
    bill = sbom.document("0.5.4+cu118", the_matrix.default, the_matrix.main, {"ziglang": "1"})
    assert bill["metadata"]["component"]["purl"] == "pkg:pypi/vllm@0.5.4%2Bcu118"


def test_program_versions_are_those_that_the_requirements_pin() -> None:
    pinned = {}
    for line in (ROOT / digest.REQUIREMENTS).read_text().splitlines():
        if line[:1].isalpha():
            requirement = Requirement(line.rstrip("\\ "))
            pinned.setdefault(requirement.name, set()).add(str(requirement.specifier))
    for name, version in digest.program_versions(ROOT).items():
        assert pinned[name] == {f"=={version}"}
