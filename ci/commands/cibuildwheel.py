"""``python -m ci cibuildwheel``: builds with cibuildwheel, and compares with the host's wheel."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ci import builder, git, matrix, names, versions
from ci.container import image, podman, wheels
from ci.container.podman import NoContainers
from ci.container.wheels import ContainerEnvironment
from ci.wheel.reader import read

HELP = "build with cibuildwheel in a container, and compare with what the host builds"
FOLDER = Path("build") / "cibuildwheel"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pypa-image",
        action="store_true",
        help="in the image of pyproject.toml, from a registry, by the container engine that "
        "CIBW_CONTAINER_ENGINE names (docker); by default in one that is made here, by podman",
    )
    parser.add_argument(
        "--if-possible",
        action="store_true",
        help="if containers cannot run here, say why and exit with 0",
    )


def run(args: argparse.Namespace) -> int:
    console = Console(soft_wrap=True)
    repo, folder = Path.cwd(), Path.cwd() / FOLDER
    commit = git.read(repo)
    try:
        place = _place(args.pypa_image, repo, console)
    except NoContainers as error:
        if not args.if_possible:
            raise
        console.print(f"cibuildwheel was not run: {error}", markup=False, highlight=False)
        return 0
    known = matrix.load()
    default = known.default
    builder.build(
        repo, repo / "wheelhouse", commit=commit, variants=[default.variant], console=console
    )
    version = versions.public(known.version, default.local)
    host = read(repo / "wheelhouse" / names.abi3_wheel_name(known, version))

    wheel = wheels.build(repo, folder, place, console)
    tested = wheels.versions_to_test(wheels.cibuildwheel_settings(repo))
    if place.image is not None:
        results = {tested[0]: f"passed in the container (Debian {image.SUITE})"}
        results.update(wheels.test(wheel, repo, folder, tested[1:], console))
    else:
        results = dict.fromkeys(tested, "passed in the container")
    different = wheels.differences(host, wheel)

    table = Table("python", "result")
    for python, result in results.items():
        table.add_row(python, result)
    console.print(table)
    console.print(f"{wheel.path.name}, {wheel.size:,} bytes", highlight=False)
    for place_of_build, built in (("host", host), ("container", wheel)):
        digest = built.native[names.LIBRARY]
        console.print(f"{names.LIBRARY}, {place_of_build:9}  sha256 {digest}", highlight=False)
    alike = f"the same bits in all {len(host.native)} native files"
    console.print(f"different: {', '.join(different)}" if different else alike)
    return 1 if different else 0


def _place(pypa_image: bool, repo: Path, console: Console) -> ContainerEnvironment:
    if pypa_image:
        return ContainerEnvironment(dict(os.environ))
    environ = podman.prepare(repo / FOLDER.parent / "podman")
    return ContainerEnvironment(environ, image.ensure(repo, environ, console))
