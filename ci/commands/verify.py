"""``python -m ci verify``: is a wheel what its commit builds to?"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from ci import scratch, verify
from ci.release import provenance
from ci.wheel import reader

HELP = "build a wheel again from the commit it names, and compare the bits"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("wheel", help="a file, or a URL")
    parser.add_argument(
        "--public-key",
        type=Path,
        metavar="PEM",
        help="check the signed provenance beside the wheel, too",
    )


def run(args: argparse.Namespace) -> int:
    console = Console(soft_wrap=True)
    with scratch.folder("vllm-verify-") as folder:
        path = verify.fetch(args.wheel, folder)
        if args.public_key is not None:
            beside = verify.fetch(args.wheel + provenance.SUFFIX, folder)
            provenance.check(beside.read_bytes(), reader.read(path), args.public_key)
            console.print("provenance: signed by that key, and about this wheel")
        difference = verify.verify(path, Path.cwd(), folder, console)
        digest = reader.read(path).sha256
    if difference is None:
        console.print(f"the same, bit for bit: sha256 {digest}", highlight=False)
        return 0
    console.print(f"different: {difference}", style="red", highlight=False)
    return 1
