"""``python -m tests.soak --kills 1000 --seed 1``; the same command goes on after a stop. See README.md."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from pathlib import Path

from tests.benchmarks.measure import write
from tests.soak.blows import BLOWS
from tests.soak.report import report, soak


def main() -> int:
    """Soak, print the tally, write the report; 0 if no run was lost, double or changed."""
    parser = argparse.ArgumentParser(description="Deals blows to a study on a cluster, and tells what became of it.")
    parser.add_argument("--kills", type=int, default=1000, help="blows to deal, those of earlier calls included")
    parser.add_argument("--seed", type=int, default=1, help="of the blows and of the study")
    parser.add_argument("--directory", type=Path, help="what a later call goes on from; studies/soak-SEED by default")
    parser.add_argument("--anew", action="store_true", help="forget what earlier calls have left in the directory")
    parser.add_argument("--out", type=Path, help="the report; results/soak/seed-SEED.json by default")
    names = [blow.kind for blow in BLOWS]
    parser.add_argument("--only", action="append", choices=names, help="a kind of blows; may be given several times")
    arguments = parser.parse_args()
    if arguments.kills < 1:
        parser.error(f"--kills {arguments.kills}: must be at least 1")
    directory = (arguments.directory or Path("studies") / f"soak-{arguments.seed}").absolute()
    if arguments.anew:
        shutil.rmtree(directory, ignore_errors=True)
    kinds = [blow for blow in BLOWS if blow.kind in (arguments.only or names)]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        phases = soak(directory, arguments.kills, arguments.seed, kinds)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    found = report(phases, arguments.seed)
    write(arguments.out or Path("results") / "soak" / f"seed-{arguments.seed}.json", found)
    return 0 if found["sound"] else 1


if __name__ == "__main__":
    sys.exit(main())
