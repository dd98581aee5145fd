"""A job that was moved: which of its files are still the same, and what they are called now.

A path says little: a folder is moved, mounted elsewhere, or reached through a symbolic link. So each note of a job's
definition, in its checkpoint and in the ledger, also says where its files were (`places`), and a file is the same

- that is at the same path, once symbolic links are resolved;
- that is in the same place seen from what carries the note, the checkpoint or the database: both were moved together;
- that is the same file as the old path, where that still leads to one (a hard link, a bind mount, another case).

A database is known by the id that stands in it, wherever it is (`etl.warehouses.base.HasIdentity`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from etl.checkpoint import Checkpoint, Part, State, replace
from etl.errors import CheckpointCorrupt
from sinks.base import OnThisMachine, Relocates, SealedPart, Sink, Whereabouts

# Under which name a definition's places stand in its fingerprint, and the checkpoint among them.
PLACES = "places"
CHECKPOINT = "checkpoint"

# How many former definitions a checkpoint remembers: a ledger may hold one from before several moves.
KEEP = 8

Fingerprint = Mapping[str, str]


def noted(components: Mapping[str, object], format: str) -> str:
    """Write down where the files are that the parts of a definition name.

    Args:
        components: by their names in the fingerprint, and the store as `checkpoint`.
        format: the name of the parts' format, which is a part of what they are.
    """
    found = {}
    for name, component in components.items():
        where = component.whereabouts() if isinstance(component, OnThisMachine) else None
        if where is not None:
            what = (
                f"{where.what} as {format}"
                if isinstance(component, Sink) and name != "rejects"
                else where.what
            )
            found[name] = Whereabouts(what, where.paths)
    return msgspec.json.encode(found).decode()


class Moves:
    """What became of a definition between a note of it and now.

    Args:
        then: the fingerprint that was noted.
        now: the job's.
        carrier: what the note stands in, by its name among the places: `checkpoint`, or `destination` for a ledger.
        known: other fingerprints of the job from before it was moved: what is like one of them is the same, too.
    """

    def __init__(
        self, then: Fingerprint, now: Fingerprint, carrier: str, known: Sequence[Fingerprint] = ()
    ) -> None:
        self._then = then
        self._now = now
        self._known = known
        self._places_then, self._places_now = _places(then), _places(now)
        self._homes = _home(self._places_then, carrier), _home(self._places_now, carrier)

    @property
    def changed(self) -> bool:
        """Whether anything is written differently now, be it the same or not."""
        return dict(self._then) != dict(self._now)

    def same(self, name: str) -> bool:
        """Say whether a part of the definition is the one that was noted, wherever it is by now."""
        then, now = self._then.get(name), self._now.get(name)
        if then is None or now is None:
            return False
        if then == now or any(former.get(name) == then for former in self._known):
            return True
        return self.same_place(name)

    def same_place(self, name: str) -> bool:
        """Say whether a part of the definition is on this machine, and names the files that were noted."""
        was, is_ = self._places_then.get(name), self._places_now.get(name)
        return (
            was is not None
            and is_ is not None
            and was.what == is_.what
            and len(was.paths) == len(is_.paths)
            and all(map(self._one_place, was.paths, is_.paths))
        )

    def elsewhere(self, name: str) -> Path | None:
        """Return the file that was noted for a part of the definition where that names another one now."""
        was = self._places_then.get(name)
        return None if was is None or self.same_place(name) else Path(was.paths[0])

    def was(self, name: str, text: str) -> bool:
        """Say whether a part of the definition is the one that was noted, and `text` is not what it is called now."""
        return text != self._now.get(name) and self.same(name)

    def same_but_for_place(self, name: str) -> bool:
        """Say whether a part of the definition is what was noted, but that it may be at any other place."""
        was, is_ = self._places_then.get(name), self._places_now.get(name)
        return self.same(name) or (was is not None and is_ is not None and was.what == is_.what)

    def is_there(self, name: str) -> bool:
        """Say whether the files exist that a part of the definition names now."""
        found = self._places_now.get(name)
        return found is not None and all(Path(path).exists() for path in found.paths)

    def keeping(self, name: str) -> dict[str, str]:
        """Return the job's fingerprint with one part of the definition as it was noted."""
        places = {**self._places_now}
        places.pop(name, None)
        if name in self._places_then:
            places[name] = self._places_then[name]
        return {**self._now, name: self._then[name], PLACES: msgspec.json.encode(places).decode()}

    def _one_place(self, then: str, now: str) -> bool:
        if now in (then, os.path.realpath(then)) or _one_file(then, now):
            return True
        home_then, home_now = self._homes
        if home_then is None or home_now is None:
            return False
        return os.path.relpath(then, home_then) == os.path.relpath(now, home_now)


def remembered(document: Checkpoint, moves: Moves) -> tuple[dict[str, str], ...]:
    """Return what a checkpoint remembers of the job's former definitions, now that it has another one.

    Only what is the same still is remembered: a sink that was exchanged for another one is no former self of it.
    """
    found: list[dict[str, str]] = []
    for former in (*document.former, document.fingerprint):
        still = {name: text for name, text in former.items() if name != PLACES and moves.was(name, text)}
        if still and still not in found:
            found.append(still)
    return tuple(found[-KEEP:])


def relocated(document: Checkpoint, moves: Moves, sink: Sink, rejects: Sink) -> Checkpoint:
    """Return a checkpoint in which each part has the URI that it has now; a plan keeps its id.

    The last part of a sink that is another one now is forgotten.
    """

    def tails(state: State) -> State:
        return with_tails(state, moves, sink, rejects)

    def moved(parts: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(
            replace(
                part,
                sealed=_relocated(part.sealed, moves, "parts", sink) or part.sealed,
                after=tails(part.after),
            )
            for part in parts
        )

    return replace(
        document,
        state=tails(document.state),
        loaded=tails(document.loaded),
        sealed=moved(document.sealed),
        plans=tuple(replace(plan, parts=moved(plan.parts)) for plan in document.plans),
        refresh=document.refresh and replace(document.refresh, base=tails(document.refresh.base)),
    )


def with_tails(state: State, moves: Moves, sink: Sink, rejects: Sink) -> State:
    """Return a state with the last parts as they are called now; that of a sink that is another one is forgotten."""
    return replace(
        state,
        tail=_relocated(state.tail, moves, "parts", sink),
        dead_letters_tail=_relocated(state.dead_letters_tail, moves, "rejects", rejects),
    )


def _relocated(part: SealedPart | None, moves: Moves, name: str, sink: Sink) -> SealedPart | None:
    if part is None or not moves.same(name):
        return None
    return sink.relocated(part) if isinstance(sink, Relocates) and part.is_local else part


def _places(fingerprint: Fingerprint) -> dict[str, Whereabouts]:
    """Return the places of a fingerprint; none where a version wrote it that did not note them."""
    text = fingerprint.get(PLACES, "{}")
    try:
        found = msgspec.json.decode(text, type=dict[str, Whereabouts])
    except msgspec.DecodeError as error:
        raise _no_note(text) from error
    if not all(place.paths and not any("\0" in path for path in place.paths) for place in found.values()):
        raise _no_note(text)
    return found


def _no_note(text: str) -> CheckpointCorrupt:
    return CheckpointCorrupt(
        f"the job's checkpoint, or its ledger, holds no note of where its files were, but {text[:200]!r}: it was "
        "changed by something else than this library. Put a copy of it back; or remove the checkpoint and the table, "
        "to load all again"
    )


def _home(places: Mapping[str, Whereabouts], carrier: str) -> Path | None:
    """Return the directory of the file that carries a note; None: it is elsewhere."""
    found = places.get(carrier)
    return None if found is None else Path(found.paths[0]).parent


def _one_file(then: str, now: str) -> bool:
    """Say whether two paths lead to one file, or are one name in one directory: a pattern, a file that is not there."""
    one, other = Path(then), Path(now)
    with suppress(OSError):
        return one.samefile(other)
    with suppress(OSError):
        return one.name == other.name and one.parent.samefile(other.parent)
    return False
