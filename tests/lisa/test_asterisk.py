"""Fetching and cleaning the prompts, on packages made here."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from lisa import asterisk, deb
from lisa.cli import main
from lisa.errors import InputError

LINES = """; Comment: not a prompt
hello: Hello.
digits/1: one
agent: Press 1, then * or # now!
again: Press 1, then * or # now.
beep: [this is a tone]
silence/1: (1 second of silence)
missing: No such file.
intro: After the tone. (simple tone sound plays)
"""


def tar_xz(files: dict[str, bytes]) -> bytes:
    """Return an archive of the files by name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def make_deb(path: Path, files: dict[str, bytes], *, control_name: str = "./control") -> None:
    """Write a package whose data archive holds ``files``."""
    control = f"Package: {path.name.split('_')[0]}\nVersion: 1.2-3\n".encode()
    parts = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": tar_xz({control_name: control}),
        "data.tar.xz": tar_xz(files),
    }
    content = b"!<arch>\n"
    for name, body in parts.items():
        content += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n".encode()
        content += body + b"\n" * (len(body) % 2)
    path.write_bytes(content)


@pytest.fixture
def packages(tmp_path) -> Path:
    """Return a folder with both packages, in small."""
    folder = tmp_path / "debs"
    folder.mkdir()
    text = {f"./{asterisk._TEXT}": gzip.compress(LINES.encode())}
    make_deb(folder / "asterisk-core-sounds-en_1_all.deb", text)
    keys = ("hello", "digits/1", "agent", "again", "beep", "silence/1", "intro")
    sounds = {f"./{asterisk._AUDIO}/{key}.g722": bytes([len(key)]) * 4000 for key in keys}
    make_deb(folder / "asterisk-core-sounds-en-g722_1_all.deb", sounds)
    return folder


def test_get_writes_prompts_manifest_and_sounds(packages, tmp_path):
    manifest = asterisk.get(tmp_path / "data", source=packages)
    rows = (tmp_path / "data" / "prompts.tsv").read_text().splitlines()
    assert rows[0] == "id\tsplit\tcluster\tseconds\ttext"
    assert {row.split("\t")[0]: row.split("\t")[4] for row in rows[1:]} == {
        "hello": "hello",
        "digits_1": "one",
        "agent": "press one then star or pound now",
        "again": "press one then star or pound now",
        "intro": "after the tone",
    }
    assert (tmp_path / "data" / "audio" / "digits_1.g722").read_bytes() == b"\x08" * 4000
    assert manifest == json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["packages"] == ["asterisk-core-sounds-en 1.2-3", "asterisk-core-sounds-en-g722 1.2-3"]


def test_get_takes_packages_from_the_cache_without_apt(packages, tmp_path, monkeypatch):
    monkeypatch.setattr(deb, "download", lambda *_: pytest.fail("asked apt-get"))
    assert asterisk.get(tmp_path / "data", cache=packages)["prompts"] == 5


def test_get_takes_an_unpacked_tree(packages, tmp_path):
    for package in packages.iterdir():
        deb.unpack(package, tmp_path / "tree")
    assert asterisk.get(tmp_path / "data", source=tmp_path / "tree")["prompts"] == 5


def test_cli_prints_what_it_got(packages, tmp_path, capsys):
    assert main(["data", "get", "--folder", str(tmp_path / "data"), "--from", str(packages)]) == 0
    assert "5 prompts" in capsys.readouterr().out


def test_without_packages_one_message_names_them_and_the_place(tmp_path, monkeypatch):
    monkeypatch.setattr(deb, "download", lambda *_: "apt-get is not on this machine")
    with pytest.raises(InputError) as caught:
        asterisk.get(tmp_path / "data" / "asterisk")
    message = str(caught.value)
    for part in (*asterisk.PACKAGES, f"Put the .deb files into {tmp_path / 'data' / 'cache'}", "--synthetic"):
        assert part in message
    assert "apt-get is not on this machine" in message


def test_given_folder_without_packages_is_not_passed_over_silently(tmp_path):
    with pytest.raises(InputError, match="holds neither asterisk-core-sounds-en and"):
        asterisk.get(tmp_path / "data", source=tmp_path)


def test_get_does_not_overwrite_a_folder_of_something_else(packages, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="exists and is not a data folder of ours"):
        asterisk.get(tmp_path / "mine", source=packages)
    assert (tmp_path / "mine" / "thesis.txt").is_file()


def test_package_cut_short_is_refused(packages, tmp_path):
    path = next(packages.glob("*g722*"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"ends \d+ bytes too early. Download it again"):
        asterisk.get(tmp_path / "data", source=packages)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match=r"begins with b'<html>no'; it takes a \.deb file"):
        asterisk.get(tmp_path / "data", source=packages)


@pytest.mark.parametrize("size", [b"many", b"-60", b""])
def test_member_without_a_size_is_refused(tmp_path, size):
    path = tmp_path / "odd_1_all.deb"
    path.write_bytes(b"!<arch>\n" + b"debian-binary".ljust(48) + size.ljust(10) + b"`\n")
    with pytest.raises(InputError, match=r"has size b'.*' at byte 56; it takes a number"):
        list(deb.members(path))


def test_package_without_a_control_file_is_refused(tmp_path):
    make_deb(tmp_path / "odd_1_all.deb", {"./a": b"x"}, control_name="./other")
    with pytest.raises(InputError, match=r"odd_1_all\.deb has no readable \./control"):
        deb.version(tmp_path / "odd_1_all.deb")


def test_nothing_is_unpacked_outside_the_folder(tmp_path):
    make_deb(tmp_path / "evil_1_all.deb", {"../outside.txt": b"x"})
    with pytest.raises(InputError, match="cannot be unpacked"):
        deb.unpack(tmp_path / "evil_1_all.deb", tmp_path / "tree")
    assert not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dollar [$]", None),
        ("<beep ascending>", None),
        ("(10 seconds of silence)", None),
        ('IAX (note: does not say "2")', "iax"),
        ("A.M.", "a m"),
        ("Dial 1234.", "dial one two three four"),
        ("press # or *", "press pound or star"),
        ("o'clock", "o'clock"),
        ("Call-Forward on Busy.", "call forward on busy"),
        ("H.323", "h three two three"),
    ],
)
def test_text_is_cleaned(text, words):
    assert asterisk.clean(text) == words


def test_near_twins_and_their_twins_share_a_cluster():
    texts = ["a b c d e f", "a b c d e f g", "a b c d e f g h", "x y z", "a b c d e f"]
    names = asterisk.clusters(texts)
    assert names == ["a b c d e f"] * 3 + ["x y z", "a b c d e f"]
    assert asterisk.clusters(texts[::-1]) == names[::-1]


def test_the_real_package_has_542_usable_prompts(asterisk):
    manifest = json.loads((asterisk / "manifest.json").read_text())
    assert (manifest["prompts"], manifest["minutes"]) == (542, 24.13)
