"""Does a file belong to those before it? One that shares no column with them would be rows of another table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from etl.errors import SourceError

_SHOWN = 8


def see_that_it_belongs(where: str, columns: Sequence[str], known: Collection[str], advice: str = "") -> None:
    """See that a file, or a member of an archive, shares a column with those before it.

    Columns may be added, left out and stand in another order. A file without the header that those before it had is
    told by this, too: its first row was taken for names, none of which they have.

    Args:
        where: names the file, for the message.
        columns: its columns; none: it says nothing.
        known: the columns of the files before it; none: it is the first.
        advice: what else can be done about it.

    Raises:
        SourceError: it shares none.
    """
    if columns and known and not set(columns).intersection(known):
        raise SourceError(
            f"{where}: its columns are {shown(columns)}, none of which the files before it have; theirs are "
            f"{shown(known)}. {advice}Name the files that belong together in `paths` or `urls`, and load others by a "
            "job of their own"
        )


def repeated(names: Sequence[str]) -> list[str]:
    """Return the names that stand there more than once, sorted."""
    return sorted(name for name, times in Counter(names).items() if times > 1)


def shown(names: Collection[str]) -> str:
    """Name columns, for a message."""
    listed = [repr(name if len(name) <= 40 else f"{name[:39]}…") for name in list(names)[:_SHOWN]]
    more = len(names) - len(listed)
    return ", ".join(listed) + (f" and {more} more" if more > 0 else "")
