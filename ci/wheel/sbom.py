"""The software bill of materials (SBOM) in a wheel's dist-info (PEP 770), in CycloneDX 1.6.

It omits the optional timestamp and serial number, because builds are reproducible.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from ci import names
from ci.matrix import Cuda, Platform
from ci.wheel.archive import Member

NAME = "sboms/vllm.cdx.json"
# Linked statically into the host library by zig; NOTICE has the licenses.
RUNTIME = "libc++, libc++abi, libunwind and compiler-rt, linked statically"
LICENSES = {
    names.PROJECT: {"expression": "Apache-2.0"},
    "ziglang": {"expression": "Apache-2.0 WITH LLVM-exception AND MIT"},
}
OF_NVIDIA = {"license": {"name": "NVIDIA CUDA Toolkit End User License Agreement"}}


def member(version: str, cuda: Cuda, platform: Platform, programs: Mapping[str, str]) -> Member:
    """The SBOM of a wheel of `cuda` for `platform`, as a member to pack.

    programs: name → version of the compilers and build tools, from the pinned requirements.
    """
    text = json.dumps(document(version, cuda, platform, programs), indent=1, sort_keys=True) + "\n"
    return Member(f"{names.PROJECT}-{version}.dist-info/{NAME}", text.encode())


def document(
    version: str, cuda: Cuda, platform: Platform, programs: Mapping[str, str]
) -> dict[str, Any]:
    """The SBOM as a JSON object: the components of the wheel, and its build tools."""
    whole = _component("library", names.PROJECT, version)
    tools = {name: _component("application", name, at) for name, at in programs.items()}
    parts = [{**tools.pop("ziglang"), "type": "library", "description": RUNTIME}]
    for pin in cuda.pins(platform.processor):
        part = _component("library", pin.project, pin.version)
        hashes = [{"alg": "SHA-256", "content": pin.sha256}]
        parts.append({**part, "hashes": hashes, "licenses": [OF_NVIDIA]})
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": whole,
            "tools": {"components": [tools[name] for name in sorted(tools)]},
        },
        "components": parts,
        "dependencies": [
            {"ref": whole["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]},
            *({"ref": part["bom-ref"]} for part in parts),
        ],
    }


def _component(kind: str, name: str, version: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{quote(version, safe='')}"
    about = {"type": kind, "name": name, "version": version, "purl": purl, "bom-ref": purl}
    return {**about, "licenses": [LICENSES[name]]} if name in LICENSES else about
