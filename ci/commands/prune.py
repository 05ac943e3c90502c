"""``python -m ci prune``: removes old commits; without --yes it only says which."""

from __future__ import annotations

import argparse
from datetime import datetime, timedelta, timezone
from functools import partial

from ci import matrix
from ci.publish import PublishError, cli, prune

HELP = "remove old nightlies; a dry run unless --yes is given"


def configure(parser: argparse.ArgumentParser) -> None:
    cli.add_bucket(parser)
    cli.add_json(parser)
    cli.add_index_key(parser)
    parser.add_argument(
        "--keep",
        type=int,
        default=matrix.load().nightlies,
        metavar="N",
        help="the newest N commits stay (default: %(default)s)",
    )
    parser.add_argument(
        "--days",
        type=int,
        default=90,
        help="what was published in the last N days stays (default: %(default)s)",
    )
    parser.add_argument("--yes", action="store_true", help="remove them")


def run(args: argparse.Namespace) -> int:
    store = cli.bucket(args)
    if args.days < 1:
        raise PublishError(
            f"--days is {args.days}",
            means="a commit of the last day may be the one that is being published",
            do="keep at least a day: --days 1",
        )
    now = datetime.now(timezone.utc)
    cli.progress(args, f"list the objects of {store.name}")
    decisions = prune.plan(store, keep=args.keep, older_than=timedelta(days=args.days), now=now)
    if args.yes:
        with cli.signing(args, store):
            decisions = prune.prune(store, decisions, now=now, report=partial(cli.progress, args))
    going = [decision for decision in decisions if decision.removed]
    size = sum(decision.size for decision in going) / 1e6
    done = "removed" if args.yes else "would be removed; --yes does it"
    lines = [f"{'-' if c.removed else ' '} {c.unit}  {c.why}" for c in decisions]
    lines.append(f"{len(going)} of {len(decisions)} commits, {size:.1f} MB, {done}")
    cli.show(args, decisions, "\n".join(lines))
    return 0
