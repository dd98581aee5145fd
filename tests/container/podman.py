"""podman for the tests: what it lacks here, the images, a small disk."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
IMAGE = "localhost/etl-sinks-test"
# Debian keeps runc, losetup and mkfs.ext4 where only root's PATH looks.
ENVIRONMENT = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
EXTRAS = "fast"
# podman's own are higher than this process's, which a sandbox may not allow.
ULIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"]


class Lacking(Exception):
    """This machine lacks what the tests in a container need; the message says what."""


def command(*arguments: str | Path) -> list[str | Path]:
    """Return a podman command. runc is preferred: Debian's crun refuses some layouts of control groups."""
    runc = shutil.which("runc", path=ENVIRONMENT["PATH"])
    return ["podman", *(["--runtime", runc] if runc else []), *arguments]


def run(*arguments: str | Path) -> list[str | Path]:
    """Return a command that runs a container without a network, and removes it at its end."""
    return command("run", "--rm", "--network", "none", *ULIMITS, *arguments)


def call(words: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, check=False)


def _needed(words: Sequence[str | Path], what: str) -> str:
    """Run what a machine may lack, and return what it printed."""
    finished = call(words)
    if finished.returncode:
        last = (finished.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise Lacking(f"{what}: {last}")
    return finished.stdout.strip()


def image() -> str:
    """Return the name of an image of the project as it is in this checkout; it is built unless it is there.

    Tests run in several processes: one of them builds, the others wait.

    Raises:
        Lacking: podman, root, a mirror or a package registry is not to be had.
        RuntimeError: the Dockerfile cannot be built.
    """
    if shutil.which("podman") is None:
        raise Lacking("podman is not installed")
    if os.geteuid() != 0:
        raise Lacking("only root can make a base image and mount a small disk")
    with (ROOT / ".venv/image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _image()


def _image() -> str:
    base = _needed(["sh", ROOT / "tests/container/make-base-image.sh"], "no base image can be made")
    version = _needed(
        run("--memory", "128m", base, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"),
        "podman cannot run a container here",
    )
    # pip runs out here, where this machine's settings for its registry are, and the build needs no network.
    wheels = _wheels(version)
    name = f"{IMAGE}:{_hash(_context(), base)}"
    if call(command("image", "exists", name)).returncode:
        settings = [f"BASE={base}", f"EXTRAS={EXTRAS}", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/wheels"]
        arguments = [word for setting in settings for word in ("--build-arg", setting)]
        build = command("build", "--network", "none", "--layers=false", *ULIMITS, *arguments)
        built = call([*build, "--volume", f"{wheels}:/wheels:ro", "--tag", name, ROOT])
        if built.returncode:
            raise RuntimeError(
                f"the Dockerfile cannot be built: {built.stdout[-2000:]}{built.stderr[-2000:]}"
            )
        for other in call(command("images", "--format", "{{.Repository}}:{{.Tag}}", IMAGE)).stdout.split():
            if other != name:
                call(command("rmi", other))
    return name


def _wheels(version: str) -> Path:
    """Return a folder with all wheels that the build needs."""
    pins = [ROOT / "pyproject.toml", ROOT / "constraints.txt"]
    wheels = ROOT / ".venv" / f"wheels-{_hash(pins, version)}"
    if not wheels.exists():
        unfinished = wheels.with_suffix(".unfinished")
        options = ["--only-binary", ":all:", "--python-version", version, "--constraint", str(pins[1])]
        download = [sys.executable, "-m", "pip", "download", "--quiet", *options, "--dest", str(unfinished)]
        _needed([*download, f"{ROOT}[{EXTRAS}]", "hatchling"], "no wheels for the image")
        for older in wheels.parent.glob("wheels-*"):
            if older != unfinished:
                shutil.rmtree(older)
        unfinished.rename(wheels)
    return wheels


def _context() -> list[Path]:
    """Return the files that the image is made of; .dockerignore lets the same ones through."""
    names = ["Dockerfile", ".dockerignore", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"]
    sources = [path for package in ("etl", "sinks") for path in (ROOT / package).rglob("*") if path.is_file()]
    return [
        *(ROOT / name for name in names),
        *sorted(path for path in sources if path.parent.name != "__pycache__"),
    ]


def _hash(files: Sequence[Path], *words: str) -> str:
    digest = hashlib.sha256(repr(words).encode())
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


@contextmanager
def small_volume(directory: Path, name: str, size: int) -> Iterator[str]:
    """Make a volume that is an ext4 of `size` bytes, owned by the image's user, and remove it at the end.

    Raises:
        Lacking: there are no loop devices here, or no mkfs.ext4.
    """
    disk = directory / f"{name}.ext4"
    with disk.open("wb") as file:
        file.truncate(size)
    _needed(["mkfs.ext4", "-q", "-m", "0", "-E", "root_owner=1000:1000", disk], "no small disk can be made")
    # Not through the page cache of the file below: the container would be charged for each page twice.
    direct = call(["losetup", "--find", "--show", "--direct-io=on", disk])
    device = direct.stdout.strip() or _needed(["losetup", "--find", "--show", disk], "no loop device")
    try:
        options = ["--opt", "type=ext4", "--opt", f"device={device}"]
        _needed(command("volume", "create", *options, name), "podman can make no volume")
        try:
            yield name
        finally:
            call(command("volume", "rm", "--force", name))
    finally:
        call(["losetup", "--detach", device])
