"""``python -m ci verify``: rebuilds a wheel and compares, or verifies a signed index."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from ci import scratch, verify
from ci.errors import CiError
from ci.release import provenance
from ci.scripts import verify_index
from ci.wheel import reader

HELP = "rebuild a wheel and compare the bits, or verify the signatures of an index (--index)"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("wheel", help="a wheel's path or URL; with --index, the URL of an index")
    parser.add_argument(
        "--index", action="store_true", help="verify a signed index, or a mirror of one"
    )
    parser.add_argument("--root", type=Path, help="with --index: the root.json that you trust")
    parser.add_argument(
        "--memory", type=Path, help="with --index: a folder that remembers what was seen"
    )
    parser.add_argument(
        "--public-key",
        type=Path,
        metavar="PEM",
        help="also check the signed provenance beside the wheel, with this public key",
    )


def run(args: argparse.Namespace) -> int:
    if args.index:
        return _index(args)
    console = Console(soft_wrap=True)
    with scratch.folder("vllm-verify-") as folder:
        wheel = reader.read(verify.fetch(args.wheel, folder))
        if args.public_key is not None:
            beside = verify.fetch(args.wheel + provenance.SUFFIX, folder)
            provenance.check(beside.read_bytes(), wheel, args.public_key)
            console.print("provenance: signed by that key, and describes this wheel")
        symbols = verify.symbols_beside(args.wheel, wheel, folder)
        difference = verify.verify(wheel.path, Path.cwd(), folder, console)
        if difference is not None:
            console.print(f"different: {difference}", style="red", highlight=False)
            return 1
        console.print(f"the same, bit for bit: sha256 {wheel.sha256}", highlight=False)
        if symbols is None:
            console.print("debug symbols: none beside it")
        elif not verify.are_rebuilt(symbols, folder):
            console.print("different: the debug symbols beside it", style="red")
            return 1
        else:
            console.print("debug symbols: the same, too")
        return 0


def _index(args: argparse.Namespace) -> int:
    if args.root is None:
        raise CiError(
            "--index needs --root, the root that you trust",
            means="whoever serves a forged index can serve a matching root",
            do="download N.root.json from whl/signed/ of the original index once, and keep it",
        )
    memory = args.memory or verify_index.memory_of(args.wheel)
    try:
        print(verify_index.verify(args.wheel, args.root.read_bytes(), memory))
    except verify_index.NotAsSigned as error:
        raise CiError(
            f"not as signed: {error}",
            means="a mirror or a proxy has changed it, or a publication is under way",
            do="install nothing from there; try again in a minute, and ask the publisher",
        ) from error
    return 0
