"""Files in folders that others share: nothing that another user planted there is followed, truncated or trusted.

The rules are those of Linux for sticky folders (`protected_symlinks`, `protected_regular`, `protected_hardlinks` in
Documentation/admin-guide/sysctl/fs.rst), which a machine may have turned off, and which the resolving of links by a
program passes by. A folder without the sticky bit is its writers' own: each of them may replace any file there.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from pathlib import Path

# More links than that, one behind the other, lead in a circle; MAXSYMLINKS of Linux.
_MOST_LINKS = 40
# A FIFO that nobody writes to is opened at once, and then seen for what it is.
_CAREFUL = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Planted(PermissionError):
    """What stands at a path may be another user's trap; nothing of it was touched."""

    def __init__(self, what: str, path: Path) -> None:
        super().__init__(errno.EPERM, f"{what} stands there", str(path))

    def __reduce__(self) -> tuple[type[PermissionError], tuple[object, ...]]:
        return PermissionError, (self.errno, self.strerror, self.filename)


def resolved(path: Path) -> Path:
    """Return where the symbolic links in a path lead, of which each is one that may be followed.

    Args:
        path: absolute; what it names need not exist.

    Raises:
        Planted: a link in a sticky folder is another user's.
        OSError: links lead in a circle, or a folder cannot be looked into.
    """
    done, links = Path(path.anchor), 0
    left = list(reversed(path.parts[1:]))
    while left:
        part = left.pop()
        here = done.parent if part == ".." else done / part
        try:
            status = here.lstat()
        except (FileNotFoundError, NotADirectoryError):
            done = here
            continue
        if not stat.S_ISLNK(status.st_mode):
            done = here
            continue
        _refuse_others(status, here)
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = here.readlink()
        if target.is_absolute():
            done = Path(target.anchor)
        left += reversed(target.parts[1:] if target.is_absolute() else target.parts)
    return done


def see(path: Path, *, alone: bool = False) -> Path:
    """Make sure that what stands at a path, if anything does, is no other user's trap; return where it leads.

    Args:
        path: absolute.
        alone: whether a file must have no other name, in a sticky folder: it will be written over.

    Raises:
        Planted: it, or a link to it, is another user's, in a sticky folder; or it is no file and no directory.
        OSError: it cannot be looked at.
    """
    where = resolved(path)
    try:
        status = where.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return where
    if stat.S_ISDIR(status.st_mode):
        _refuse_others(status, where)
    else:
        _check(status, where, alone=alone)
    return where


def open_existing(path: Path, flags: int) -> int:
    """Open a file that is there, and is a file; return the descriptor, which no program that is started inherits.

    Args:
        path: absolute; links that are this user's are followed.
        flags: such as `os.O_RDWR`.

    Raises:
        Planted: another user put it there, in a sticky folder; or it is no file; or, for writing, it is another name of
            a file that stands elsewhere too.
        OSError: it cannot be opened.
    """
    where = resolved(path)
    descriptor = os.open(where, flags | _CAREFUL)
    try:
        _check(os.fstat(descriptor), where, alone=bool(flags & (os.O_RDWR | os.O_WRONLY)))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_private(path: Path) -> int:
    """Open a file of the library's own for reading and writing, made where it is missing; see `create_private`.

    Args:
        path: absolute; no link at its end is followed.

    Raises:
        Planted: what stands there is no file, or has other names, or is another user's in a sticky folder.
        OSError: it cannot be opened or made.
    """
    while True:
        try:
            return create_private(path)
        except FileExistsError:
            pass
        try:
            descriptor = os.open(path, os.O_RDWR | _CAREFUL)
        except FileNotFoundError:  # removed in between
            continue
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise Planted(_kind(path.lstat()), path) from error
            if error.errno == errno.EACCES:
                _refuse_others(path.lstat(), path)
            raise
        try:
            status = os.fstat(descriptor)
            _check(status, path, alone=False)
            if status.st_nlink > 1:
                raise Planted("another name of a file that stands elsewhere too", path)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def create_private(path: Path, like: int | None = None) -> int:
    """Make a file that is not there, for reading and writing; return the descriptor.

    It is this user's alone (0600); or its group's too, where the umask lets the group write, as teams set it that share
    a folder.

    Args:
        path: absolute; nothing that stands there is opened or followed.
        like: the permissions that it gets instead; None: those.

    Raises:
        FileExistsError: something stands there.
        OSError: it cannot be made.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660)
    try:
        mode = os.fstat(descriptor).st_mode
        wanted = like if like is not None else 0o660 if mode & stat.S_IWGRP else 0o600
        if stat.S_IMODE(mode) != wanted:
            os.fchmod(descriptor, wanted)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def remove_left(path: Path) -> None:
    """Remove what a process of before left at a path of the library's own; nothing that it leads to is touched.

    Raises:
        Planted: a directory stands there, or what this user may not remove.
        OSError: it cannot be removed.
    """
    try:
        path.unlink()
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError) as error:
        status = path.lstat()
        _refuse_others(status, path)
        if not stat.S_ISREG(status.st_mode):
            raise Planted(_kind(status), path) from error
        raise


def private_directory(path: Path) -> Path:
    """Make a directory that nobody else may enter, or take the one that is there; return it.

    Args:
        path: absolute; the directory above it must exist.

    Raises:
        Planted: what stands there is no directory, or another user's.
        OSError: it cannot be made.
    """
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            raise Planted(_kind(status), path) from None
        if status.st_uid != os.geteuid():
            raise Planted(f"a directory of {_user(status.st_uid)}", path) from None
        if status.st_mode & 0o077:
            path.chmod(0o700)
    return path


def _check(status: os.stat_result, path: Path, *, alone: bool) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Planted(_kind(status), path)
    shared = _refuse_others(status, path)
    if alone and shared and status.st_nlink > 1:
        raise Planted("another name of a file that stands elsewhere too", path)


def _refuse_others(status: os.stat_result, path: Path) -> bool:
    """Refuse what is another user's in a sticky folder; return whether the folder is one."""
    folder = path.parent.stat()
    if not (folder.st_mode & stat.S_ISVTX and folder.st_mode & (stat.S_IWOTH | stat.S_IWGRP)):
        return False
    if status.st_uid not in (os.geteuid(), folder.st_uid, 0):
        raise Planted(
            f"{_kind(status)} of {_user(status.st_uid)}, in a folder that others write to too,", path
        )
    return True


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "a file")


def _user(number: int) -> str:
    try:
        return f"the user {pwd.getpwuid(number).pw_name}"
    except KeyError:
        return f"the user with the id {number}"
