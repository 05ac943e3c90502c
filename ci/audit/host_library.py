"""Is the host library as portable as the wheel's tags say? auditwheel and abi3audit judge."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping

from ci.audit.findings import Finding
from ci.errors import CiError
from ci.matrix import Matrix, Platform
from ci.names import LIBRARY
from ci.wheel import symbols
from ci.wheel.reader import WheelFile


class AuditorError(CiError):
    """auditwheel or abi3audit failed without a verdict."""


def check_policy(wheel: WheelFile, platform: Platform) -> tuple[str, list[Finding]]:
    """The platform that auditwheel determines, and a finding if another was promised."""
    # Only stdout: on stderr it warns, once per cubin, that it does not know the format.
    output = _run("auditwheel", "show", str(wheel.path))
    said = re.search(r'following platform tag:\s+"(\w+)"', output)
    if said is None:
        raise AuditorError(f"auditwheel names no platform for {wheel.path.name}:\n{output}")
    if said[1] == platform.policy:
        return said[1], []
    return said[1], [Finding(LIBRARY, f"auditwheel to say {platform.policy}", said[1])]


def check_abi3(wheel: WheelFile, matrix: Matrix) -> tuple[str, list[Finding]]:
    """A line of what abi3audit found in the host library, and its objections.

    A wheel for one Python holds the same library, so it must use the same limited API.
    """
    options = ["--strict", "--report", "--assume-minimum-abi3", matrix.abi3]
    output = _run("abi3audit", *options, str(wheel.path))
    try:
        (spec,) = json.loads(output)["specs"].values()
        results = {item["name"]: item["result"] for item in spec["wheel"]}
    except (ValueError, KeyError) as error:
        raise AuditorError(f"abi3audit gives no report of {wheel.path.name}:\n{output}") from error
    name = LIBRARY.rsplit("/", 1)[1]
    if list(results) != [name]:
        return "", [Finding("", f"one extension, {name}", ", ".join(results) or "none")]
    result = results[name]
    findings = []
    if not result["is_abi3"] or result["non_abi3_symbols"]:
        symbols = ", ".join(result["non_abi3_symbols"])
        findings.append(
            Finding(LIBRARY, "the limited API alone", f"also {symbols or 'other names'}")
        )
    if not result["is_abi3_baseline_compatible"] or result["baseline"] != matrix.abi3:
        later = ", ".join(result["future_abi3_objects"]) or "none"
        found = f"{result['computed']} (newer names: {later})"
        findings.append(Finding(LIBRARY, f"the limited API of {matrix.abi3}", found))
    return f"limited API of {result['computed']}, no violations", findings


def check_symbols(wheel: WheelFile, members: Mapping[str, bytes]) -> Iterator[Finding]:
    """Checks the library's build-id, and that the debug symbols beside the wheel belong to it.

    A wheel that was built here has them beside it; one that was downloaded alone does not.
    """
    library = members.get(LIBRARY)
    if library is None:
        return  # `contents` reports that
    build_id = symbols.build_id(library)
    if build_id is None:
        yield Finding(LIBRARY, "a build-id", "none")
        return
    name = symbols.name_of(build_id)
    debug = wheel.path.parent / name
    if debug.is_file():
        for expected, found in symbols.problems(debug.read_bytes(), library):
            yield Finding(name, expected, found)


def _run(auditor: str, *arguments: str) -> str:
    """The output of an auditor; both exit with an error for a bad wheel too, after a report."""
    command = [sys.executable, "-m", auditor, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        raise AuditorError(
            f"{auditor} failed:\n{done.stderr.strip()}",
            do="install the pinned requirements: pip install -r requirements/ci.txt",
        )
    return done.stdout
