"""Preconditions on generations and metagenerations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message

from etl.testing.gcs_server.answers import ApiError, condition_not_met
from etl.testing.gcs_server.resources import StoredObject


def whole_number(query: Mapping[str, str] | Message, name: str) -> int | None:
    """Return a parameter, or a header, as an int; None when it is not given.

    Raises:
        ApiError: 400, it is no whole number.
    """
    text = query.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal():
        raise ApiError(400, "invalidParameter", f"Invalid value for {name}: {text!r} is no whole number.")
    return int(text)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What must hold of the live object for a request to be carried out.

    An object that does not exist counts as generation 0 and metageneration 0.
    Source: https://cloud.google.com/storage/docs/request-preconditions
    """

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str], prefix: str = "if") -> Conditions:
        """Read the parameters of a request; `prefix` is `ifSource` for the source of a copy."""
        return cls(
            generation_match=whole_number(query, f"{prefix}GenerationMatch"),
            generation_not_match=whole_number(query, f"{prefix}GenerationNotMatch"),
            metageneration_match=whole_number(query, f"{prefix}MetagenerationMatch"),
            metageneration_not_match=whole_number(query, f"{prefix}MetagenerationNotMatch"),
        )

    def check(self, stored: StoredObject | None, *, reading: bool = False) -> None:
        """Raise unless all of them hold.

        Args:
            stored: the live object; None: there is none.
            reading: a read whose `NotMatch` fails is not an error, it is "you have it already" (304).

        Raises:
            ApiError: 412 or 304.
        """
        generation = stored.generation if stored else 0
        metageneration = stored.metageneration if stored else 0
        if self.generation_match not in (None, generation):
            raise condition_not_met()
        if self.metageneration_match not in (None, metageneration):
            raise condition_not_met()
        if generation == self.generation_not_match or metageneration == self.metageneration_not_match:
            raise ApiError(304, "notModified", "Not Modified") if reading else condition_not_met()
