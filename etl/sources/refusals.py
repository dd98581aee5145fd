"""What is wrong with a content, without its place: the one that knows it makes a `SourceError` of it."""

from __future__ import annotations

from etl.sources.place import Place


class Damaged(Exception):
    """What is stored cannot be decoded.

    Args:
        what: what is wrong, as the end of a sentence that begins with the place.
        advice: the next step, a sentence without its end; None: the one that tells it knows the usual one.
    """

    def __init__(self, what: str, advice: str | None = None) -> None:
        super().__init__(what)
        self.advice = advice

    def told(self, place: Place, advice: str) -> str:
        """Say it for people, with the place and the next step; `advice` is the usual one."""
        return (
            f"{place}: {self}; {place.record} records of it were read. {self.advice or advice}, and run again: "
            "the job goes on from its last checkpoint"
        )


class Replaced(Exception):
    """What was read of a content is not what stands there now; says what shows it."""


class Unended(Exception):
    """A text ends in what may be half of a record, and its writer may write on; it is not taken."""


class Refused(Damaged):
    """What is stored is of a kind that is not read here, or that nobody can read as what it is called.

    Args:
        kind: the kind in a word or two, such as `XML`.
        what: what it is, as the end of a sentence that begins with the place.
        advice: the next step, in the same sentence.
    """

    def __init__(self, kind: str, what: str, advice: str) -> None:
        super().__init__(what, advice)
        self.kind = kind

    def told(self, place: Place, advice: str) -> str:  # noqa: ARG002 - a kind has its own next step
        """Say it for people, with the place and the next step."""
        return f"{place}: {self}: {self.advice}"
