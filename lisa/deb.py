"""Fetch Debian packages without root and unpack them without dpkg.

A .deb is an ``ar`` archive (60-byte member headers) that holds ``control.tar.*`` and ``data.tar.*``.
"""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from lisa.errors import InputError


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each member of an ``ar`` archive.

    Raises:
        InputError: not an archive, or cut short.
    """
    content = path.read_bytes()
    if not content.startswith(b"!<arch>\n"):
        raise InputError(f"members: {path} begins with {content[:8]!r}; it takes a .deb file. Download it again.")
    offset = 8
    while offset < len(content):
        header = content[offset : offset + 60]
        if len(header) < 60 or header[58:] != b"`\n":
            raise InputError(f"members: {path} is damaged at byte {offset}; it takes a whole .deb. Download it again.")
        if not header[48:58].strip().isdigit():
            raise InputError(
                f"members: {path} has size {header[48:58]!r} at byte {offset + 48}; it takes a number. "
                "Download it again."
            )
        size = int(header[48:58])
        body = content[offset + 60 : offset + 60 + size]
        if len(body) < size:
            raise InputError(f"members: {path} ends {size - len(body)} bytes too early. Download it again.")
        yield header[:16].decode("ascii", "replace").strip().rstrip("/"), body
        offset += 60 + size + size % 2  # Members start at even offsets.


def _open_tar(path: Path, stem: str) -> tarfile.TarFile:
    for name, body in members(path):
        if name.startswith(f"{stem}.tar"):
            try:
                return tarfile.open(fileobj=io.BytesIO(body), mode="r:*")
            except (tarfile.TarError, EOFError) as error:
                raise InputError(
                    f"unpack: {path} holds {name}, which cannot be read ({error}); it takes .xz and .gz. "
                    f"Unpack it by hand (dpkg -x {path.name} FOLDER) and give that folder."
                ) from error
    raise InputError(f"unpack: {path} holds no {stem}.tar; it takes a .deb file. Download it again.")


def unpack(path: Path, folder: Path) -> None:
    """Write the files of package ``path`` under ``folder``; nothing lands outside it."""
    with _open_tar(path, "data") as archive:
        try:
            archive.extractall(folder, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise InputError(
                f"unpack: {path} cannot be unpacked into {folder} ({error}). Download it again."
            ) from error


def version(path: Path) -> str:
    """Return ``name version`` as the package's own control file states them.

    Raises:
        InputError: no control file, or one that lacks either.
    """
    with _open_tar(path, "control") as archive:
        try:
            content = archive.extractfile("./control").read().decode()
            fields = dict(line.split(": ", 1) for line in content.splitlines() if ": " in line)
            return f"{fields['Package']} {fields['Version']}"
        except (KeyError, AttributeError, ValueError, tarfile.TarError, EOFError, OSError) as error:
            raise InputError(
                f"version: {path} has no readable ./control ({error}); it takes one with Package and Version. "
                "Download it again."
            ) from error


def find(names: tuple[str, ...], folder: Path) -> list[Path] | None:
    """Return one .deb for each package name in ``folder``, or None if any is missing."""
    found = [sorted(folder.glob(f"{name}_*.deb")) for name in names]
    return [paths[-1] for paths in found] if all(found) else None


def download(names: tuple[str, ...], folder: Path) -> str | None:
    """Put the packages into ``folder`` by ``apt-get download``; return None, or why it did not work.

    Needs no root. Where the machine has no package lists, a state folder of its own is filled first (about 19 MB) and
    removed afterwards.
    """
    if shutil.which("apt-get") is None:
        return "apt-get is not on this machine"
    folder.mkdir(parents=True, exist_ok=True)
    reason = _run(["apt-get", "download", *names], folder)
    if reason is None:
        return None
    state = folder.resolve() / "apt"
    for part in ("state/lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    own = [
        "-o",
        f"Dir::State={state}/state",
        "-o",
        "Dir::State::status=/dev/null",
        "-o",
        f"Dir::Cache={state}/cache",
    ]
    try:
        return _run(["apt-get", *own, "update"], folder) or _run(["apt-get", *own, "download", *names], folder)
    finally:
        shutil.rmtree(state, ignore_errors=True)


def _run(command: list[str], folder: Path) -> str | None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}"
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "Err"))]
    return (lines or done.stderr.splitlines() or [f"exit status {done.returncode}"])[-1]
