"""Audits a finished wheel: does it hold what its name promises, and nothing else?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ci.audit import contents, device_code, host_library, metadata, tree
from ci.audit.findings import AuditError, Finding
from ci.audit.report import AuditReport
from ci.matrix import Cuda, Matrix, Platform
from ci.wheel import reader
from ci.wheel.reader import WheelFile

__all__ = ["AuditError", "AuditReport", "audit", "audit_all"]


def audit(path: Path, matrix: Matrix, repo: Path) -> AuditReport:
    """The report of the wheel at `path`, if it passes every check.

    repo: a checkout that has the wheel's commit; the expected contents are read from there.
    Raises BadWheel if the file is damaged or contradicts itself, and AuditError with all other
    findings; each names the member, what was expected and what was found.
    """
    return audit_all([path], matrix, repo)[0]


def audit_all(
    paths: Iterable[Path],
    matrix: Matrix,
    repo: Path,
    report: Callable[[Path], None] = lambda path: None,
) -> list[AuditReport]:
    """`audit` of each; auditwheel and abi3audit run once for each set of native files.

    report: called with each wheel before its audit.
    """
    judged: dict[frozenset[tuple[str, str]], tuple[str, str]] = {}
    reports = []
    for path in paths:
        report(path)
        reports.append(_audit(path, matrix, repo, judged))
    return reports


def _audit(
    path: Path,
    matrix: Matrix,
    repo: Path,
    judged: dict[frozenset[tuple[str, str]], tuple[str, str]],
) -> AuditReport:
    wheel, members = reader.open_wheel(path)
    cuda = matrix.variant(wheel.build.variant)
    platform = _platform(wheel, matrix, cuda)
    budget = cuda.budgets[platform.processor]
    by_name = {member.name: member.data for member in members}
    sources = tree.read(repo, wheel.build)
    _raise_if_any(
        path,
        [
            *contents.check(wheel, by_name, cuda, platform, sources),
            *metadata.check(wheel, matrix, cuda, platform, sources),
            *device_code.check(wheel, by_name),
            *host_library.check_symbols(wheel, by_name),
            *_check_size(wheel.size, budget),
        ],
    )
    code = frozenset(wheel.native.items())
    if code not in judged:
        # These take a second each, and need a wheel that contains the library.
        policy, findings = host_library.check_policy(wheel, platform)
        extension, more = host_library.check_abi3(wheel, matrix)
        _raise_if_any(path, [*findings, *more])
        judged[code] = policy, extension
    policy, extension = judged[code]
    return AuditReport.of(wheel, policy=policy, extension=extension, budget=budget)


def _platform(wheel: WheelFile, matrix: Matrix, cuda: Cuda) -> Platform:
    """The platform of the wheel's tag; the main one for an unknown tag, so that the audit fails."""
    for platform in matrix.platforms_of(cuda):
        if any(tag.endswith(f"-{platform.tag}") for tag in wheel.tags):
            return platform
    return matrix.main


def _raise_if_any(path: Path, findings: list[Finding]) -> None:
    if findings:
        raise AuditError(path, findings)


def _check_size(size: int, budget: int) -> list[Finding]:
    if size <= budget:
        return []
    return [Finding("", f"at most {budget} bytes (ci/matrix.toml)", f"{size} bytes")]
