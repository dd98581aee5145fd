"""`make soak`: every job of the soak for its share of the time; prints what was tried, and what is kept."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.soak.accounts import problems, table
from tests.soak.jobs import JOBS
from tests.soak.running import MEMORY, soak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=900.0, help="for all jobs together")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of a soak to draw again")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        soaks = [
            soak(job, Path(directory) / str(number), arguments.seed, seconds=arguments.seconds / len(JOBS))
            for number, job in enumerate(JOBS)
        ]
    print(table(soaks))
    grown = [problem for soaked in soaks for problem in problems(soaked)]
    print("\n".join(grown) or "every table was exact, and nothing grew")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
