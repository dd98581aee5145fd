"""File systems to measure on: each made for it, in mounts that nobody else sees, and gone afterwards.

`own_mounts` gives this process a mount namespace, which ends with it however it ends; with it go the mounts,
and with them the loop devices, which are told to let go of their files when nobody uses them any more.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sinks import page_cache

CLONE_NEWNS = 0x00020000  # linux/sched.h
# Tools of the administrator, where the path of an ordinary user does not lead.
ENVIRONMENT = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
SLACK = 1 << 30  # bytes of a loop file beyond the data: a journal, groups that are not full


class NotHere(Exception):
    """This place cannot be had on this machine; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where files are written.

    Attributes:
        name: of this place, `ext4-loop`.
        title: of this place, for a table.
        directory: there; in the container that of the container.
        file_system: the name of its file system, as `sinks.page_cache.choose` has it.
        made: how it was made, in words.
        image: the container's image, when it is a container.
        loop: whether freed blocks are to be given back to the file below.
    """

    name: str
    title: str
    directory: Path
    file_system: str
    made: str
    image: str | None = None
    loop: bool = False

    @property
    def file(self) -> Path:
        """The one file that is written there."""
        return self.directory / "page-cache-benchmark"

    def clear(self) -> None:
        """Remove the file, and give its space back, so that each run finds the same."""
        if self.image is not None:
            return  # goes with its container
        self.file.unlink(missing_ok=True)
        if self.loop:
            # Its loop file is sparse again for the next run: to allocate its blocks costs everybody the same.
            _run("fstrim", self.directory)


Maker = Callable[[Path, int], AbstractContextManager[Place]]


def own_mounts() -> None:
    """Let nobody else see the mounts that this process makes from now on.

    Raises:
        NotHere: this process may not mount.
    """
    if os.geteuid() != 0:
        raise NotHere("only root may mount file systems")
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        raise NotHere(f"no mount namespace can be had: {os.strerror(ctypes.get_errno())}")
    _run("mount", "--make-rprivate", "/")


@contextmanager
def plain_directory(work: Path, size: int) -> Iterator[Place]:
    """A directory on the disk where `work` is; `size` bytes must be free there."""
    _check_space(work, size)
    directory = work / "directory"
    directory.mkdir()
    try:
        kind = file_system(directory)
        yield Place(
            name="directory",
            title=kind,
            directory=directory,
            file_system=kind,
            made="a directory on the machine's disk",
        )
    finally:
        shutil.rmtree(directory)


@contextmanager
def loop_mount(kind: str, work: Path, size: int) -> Iterator[Place]:
    """A file system of its own in a sparse file, with room for `size` bytes."""
    image, directory = work / f"{kind}.image", work / f"{kind}-loop"
    maker = {"ext4": ("-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"), "xfs": ("-K",)}[kind]
    if shutil.which(f"mkfs.{kind}", path=ENVIRONMENT["PATH"]) is None:
        raise NotHere(f"mkfs.{kind} is not installed")
    _check_space(work, size)
    with image.open("wb") as file:
        file.truncate(size + size // 8 + SLACK)
    directory.mkdir()
    try:
        device = _run("losetup", "--find", "--show", "--direct-io=on", image)
        _run(f"mkfs.{kind}", "-q", *maker, device)
        _run("mount", device, directory)
        direct = Path("/sys/block", Path(device).name, "loop/dio").read_text().strip() == "1"
        _run("losetup", "--detach", device)  # in use, so not before it is unmounted
        yield Place(
            name=f"{kind}-loop",
            title=f"{kind}, loop mount",
            directory=directory,
            file_system=file_system(directory),
            made=f"a loop mount, {'past' if direct else 'THROUGH'} the page cache of the file below",
            loop=True,
        )
    finally:
        _undo("umount", "--lazy", directory)
        for line in _undo("losetup", "--associated", image).splitlines():  # stopped before it was mounted
            _undo("losetup", "--detach", line.partition(":")[0])
        directory.rmdir()
        image.unlink()


@contextmanager
def overlay(options: str, work: Path, size: int) -> Iterator[Place]:
    """An overlay as a container has it, its upper layer in a directory on the disk."""
    name = f"overlayfs{'-' if options else ''}{options}"
    root = work / name
    lower, upper, scratch, merged = (root / part for part in ("lower", "upper", "work", "merged"))
    _check_space(work, size)
    for directory in (lower, upper, scratch, merged):
        directory.mkdir(parents=True)
    try:
        layers = f"lowerdir={lower},upperdir={upper},workdir={scratch}"
        _run("mount", "-t", "overlay", "-o", f"{layers}{',' if options else ''}{options}", "overlay", merged)
        yield Place(
            name=name,
            title=f"overlayfs{', ' if options else ''}{options}",
            directory=merged,
            file_system=file_system(merged),
            made=f"upper layer in a directory on {file_system(work)}",
        )
    finally:
        _undo("umount", "--lazy", merged)
        shutil.rmtree(root)


@contextmanager
def container(image: str | None, work: Path, size: int) -> Iterator[Place]:
    """The root of a container that is made anew for each run."""
    if image is None:
        raise NotHere("no image was named (--image)")
    if shutil.which("podman") is None or shutil.which("runc", path=ENVIRONMENT["PATH"]) is None:
        raise NotHere("podman and runc are not installed")
    _check_space(work, size)
    if subprocess.run(["podman", "image", "exists", image], check=False).returncode:
        raise NotHere(f"there is no image {image}")
    yield Place(
        name="container",
        title="in a container",
        directory=Path("/var/tmp"),  # the container's own root, and not a volume
        file_system="overlayfs",
        made=f"podman with runc, the root of {image}",
        image=image,
    )


def makers(image: str | None = None) -> dict[str, Maker]:
    """Return what makes each place: called with a directory to work in, and how many bytes will be written."""
    return {
        "directory": plain_directory,
        "ext4-loop": partial(loop_mount, "ext4"),
        "xfs-loop": partial(loop_mount, "xfs"),
        "overlayfs": partial(overlay, ""),
        "overlayfs-volatile": partial(overlay, "volatile"),
        "container": partial(container, image),
    }


def file_system(directory: Path) -> str:
    """Return the name of the file system of `directory`: `ext4`, `overlayfs`; "unknown" if it is that."""
    return page_cache.choose(directory).file_system or "unknown"


def _check_space(work: Path, size: int) -> None:
    free = shutil.disk_usage(work).free
    if free < size + 2 * SLACK:
        raise NotHere(f"{size + 2 * SLACK:,} bytes are needed in {work}, {free:,} are free")


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotHere(f"`{' '.join(map(str, command))}`: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def _undo(*command: str | Path) -> str:
    """Run a command that fails where nothing is to be undone; return what it says."""
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False).stdout
