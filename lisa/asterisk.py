"""Asterisk's English core sounds: 542 transcribed prompts of one voice (CC-BY-SA-3.0), as a data folder with splits.

A data folder holds ``prompts.tsv`` (id, split, cluster, seconds, text), ``manifest.json`` (packages, counts) and
``audio/``. Texts are nearly repeated many times, so a cluster of near-twins stays on one side of the split.
"""

import csv
import gzip
import hashlib
import json
import re
import shutil
from collections import Counter
from pathlib import Path

from lisa import deb
from lisa.errors import InputError

PACKAGES = ("asterisk-core-sounds-en", "asterisk-core-sounds-en-g722")
G722_BYTES_PER_S = 8000  # Two samples a byte at 16 kHz.
TWIN_OVERLAP = 0.7
DEV_PERCENT, TEST_PERCENT = 8, 14
_TEXT = "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
_AUDIO = "usr/share/asterisk/sounds/en_US_f_Allison"
_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def clean(text: str) -> str | None:
    """Return the spoken words in a-z, apostrophe and space, or None for what is not speech.

    ``[…]`` and ``<…>`` mark tones; ``(…)`` holds remarks; digits are read one by one.
    """
    if "[" in text or "<" in text:
        return None
    text = re.sub(r"\([^)]*\)", " ", text).lower()
    text = re.sub(r"\b([ap])\.m\.", r"\1 m", text)
    text = text.replace("*", " star ").replace("#", " pound ")
    text = re.sub(r"\d", lambda match: f" {_DIGITS[int(match[0])]} ", text)
    text = re.sub(r"[^a-z' ]", " ", text)
    return " ".join(text.split()) or None


def clusters(texts: list[str], *, overlap: float = TWIN_OVERLAP) -> list[str]:
    """Return a cluster name per text: texts whose word sets overlap (Jaccard) share it, directly or through others.

    The name is the first text of the cluster in alphabetical order, so it does not depend on the order given.
    """
    distinct = sorted(set(texts))
    words = [frozenset(text.split()) for text in distinct]
    parent = list(range(len(distinct)))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    for first in range(len(distinct)):
        for second in range(first):
            shared = len(words[first] & words[second])
            if shared >= overlap * len(words[first] | words[second]):
                low, high = sorted((root(first), root(second)))
                parent[high] = low
    name = {text: distinct[root(index)] for index, text in enumerate(distinct)}
    return [name[text] for text in texts]


def split_of(cluster: str) -> str:
    """Return train, dev or test: fixed by the hash of the cluster's name, the same on every machine."""
    place = int.from_bytes(hashlib.sha256(cluster.encode()).digest()[:4], "big") % 100
    return "dev" if place < DEV_PERCENT else "test" if place < DEV_PERCENT + TEST_PERCENT else "train"


def get(folder: Path, *, source: Path | None = None, cache: Path | None = None) -> dict:
    """Build the data folder and return its manifest.

    Looks for the two packages in ``source`` (if given: .deb files or an unpacked tree), then in ``cache``, then asks
    apt-get. Nothing stands in for them silently.

    Raises:
        InputError: the packages are nowhere to be had; the message says what to put where.
    """
    cache = cache or folder.parent / "cache"
    if folder.exists() and not (folder / "manifest.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"get: folder {folder} exists and is not a data folder of ours; it would be overwritten. "
            "Name a new or empty folder."
        )
    tree = folder.with_name(folder.name + ".unpacking")
    shutil.rmtree(tree, ignore_errors=True)
    try:
        if source is not None and (source / _TEXT).is_file():
            return _build(source, folder, ["unpacked tree given by the user"])
        packages = _packages(source, cache)
        for package in packages:
            deb.unpack(package, tree)
        return _build(tree, folder, [deb.version(package) for package in packages])
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def _packages(source: Path | None, cache: Path) -> list[Path]:
    wanted = " and ".join(PACKAGES)
    if source is not None:
        found = deb.find(PACKAGES, source)
        if found is None:
            raise InputError(
                f"get: {source} holds neither {wanted} as .deb files nor their unpacked tree ({_TEXT}). "
                "Put the .deb files there, or leave the folder out to have them downloaded."
            )
        return found
    reason = None if deb.find(PACKAGES, cache) else deb.download(PACKAGES, cache)
    found = deb.find(PACKAGES, cache)
    if found is None:
        raise InputError(
            f"get: the Debian packages {wanted} are not in {cache} and could not be downloaded ({reason}). "
            f"Put the .deb files into {cache} and run it again; --synthetic runs the plumbing without any data."
        )
    return found


def _build(tree: Path, folder: Path, packages: list[str]) -> dict:
    try:
        lines = gzip.decompress((tree / _TEXT).read_bytes()).decode("utf-8").splitlines()
    except (OSError, EOFError) as error:
        raise InputError(f"get: {tree / _TEXT} cannot be read ({error}). Download the packages again.") from error
    prompts = []
    for line in lines:
        key, colon, text = line.partition(":")
        path = tree / _AUDIO / f"{key.strip()}.g722"
        words = clean(text) if colon and not line.startswith(";") else None
        if words and path.is_file() and not key.startswith("silence/"):
            prompts.append((key.strip(), words, path))
    if not prompts:
        raise InputError(f"get: {tree} holds no prompt with text and .g722 file. Give both packages: {PACKAGES}.")

    building = folder.with_name(folder.name + ".building")
    shutil.rmtree(building, ignore_errors=True)
    (building / "audio").mkdir(parents=True)
    rows = []
    for (key, words, path), cluster in zip(prompts, clusters([words for _, words, _ in prompts]), strict=True):
        name = key.replace("/", "_")
        shutil.copyfile(path, building / "audio" / f"{name}.g722")
        seconds = path.stat().st_size / G722_BYTES_PER_S
        rows.append((name, split_of(cluster), cluster, f"{seconds:.3f}", words))
    with (building / "prompts.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerows([("id", "split", "cluster", "seconds", "text"), *rows])
    manifest = {
        "name": "Asterisk core sounds, English",
        "licence": "CC-BY-SA-3.0",
        "packages": packages,
        "prompts": len(rows),
        "minutes": round(sum(float(row[3]) for row in rows) / 60, 2),
        "split": dict(Counter(row[1] for row in rows)),
        "clusters": len({row[2] for row in rows}),
        "prompts_sha256": hashlib.sha256((building / "prompts.tsv").read_bytes()).hexdigest(),
    }
    (building / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    building.rename(folder)
    return manifest
