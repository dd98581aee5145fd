"""What a soak makes of what was kept: nothing may grow with the runs, and a table for those who read it."""

from __future__ import annotations

from tests.soak.running import Kept, Soak

# Numbers in the checkpoint get more digits; of a database, blocks of 256 KiB are taken and given back.
MORE_CHECKPOINT, BLOCK = 256, 2**18


def problems(soaked: Soak) -> list[str]:
    """Return what grew between the first run that came to its end and the last; empty: nothing."""
    first, last = soaked.kept[0], soaked.kept[-1]
    grown = {
        "files": last.files > first.files,
        "checkpoint": last.checkpoint > first.checkpoint + MORE_CHECKPOINT,
        "database": last.database > most_database(soaked, first),
        "descriptors": last.descriptors > first.descriptors,
        "threads": last.threads > first.threads,
    }
    return [f"{name}: {first} became {last}" for name, grew in grown.items() if grew]


def most_database(soaked: Soak, first: Kept) -> int:
    """Return how large the database may be, in bytes: what is loaded, what a load frees for the next, the ledger.

    Rows are counted at 64 bytes, four times what they are, because each load begins a block.
    """
    rows = len(soaked.job.rows(soaked.content))
    return 2 * first.database + 64 * rows + 8 * BLOCK


def table(soaks: list[Soak]) -> str:
    """Return a line for each job, as Markdown."""
    heads = (
        "job",
        "runs",
        "killed",
        "signalled",
        "with a twin",
        "compared",
        "files",
        "checkpoint",
        "database",
    )
    lines = [heads, tuple("---" for _ in heads)]
    for soaked in soaks:
        first, last, endings = soaked.kept[0], soaked.kept[-1], soaked.endings
        lines.append(
            (
                soaked.job.name,
                f"{soaked.rounds:,}",
                f"{endings['SIGKILL']:,}",
                f"{endings['SIGTERM'] + endings['SIGINT']:,}",
                f"{endings['a twin beside it']:,}",
                f"{soaked.compared:,}",
                f"{first.files} → {last.files}",
                f"{first.checkpoint:,} → {last.checkpoint:,}",
                f"{first.database:,} → {last.database:,}",
            )
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
