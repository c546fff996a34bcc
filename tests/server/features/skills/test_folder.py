"""What counts as a skill and what does not: folders, archives, front matter."""

from __future__ import annotations

import bz2
import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from portico_server.core.errors import PorticoError
from portico_server.features.skills import folder
from portico_server.features.skills.folder import read_archive, read_files, read_folder, unpack

FRONT = "---\nname: pdf-forms\ndescription: Fills forms.\n"
SKILL = (FRONT + "---\n# Forms\n").encode()
FILES = {"SKILL.md": SKILL, "scripts/fill.py": b"print(1)\n"}


def text(front: str) -> dict[str, bytes]:
    return {"SKILL.md": f"---\n{front}\n---\nDo it.".encode()}


def zipped(files: dict[str, bytes], *, folders: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        if folders:
            packed.mkdir("pdf-forms")
        for name, data in files.items():
            packed.writestr(name, data)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            packed.addfile(entry, io.BytesIO(data))
        for entry in more:
            packed.addfile(entry)
    return buffer.getvalue()


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    tar_entry = tarfile.TarInfo(name)
    tar_entry.type, tar_entry.linkname = kind, target
    return tar_entry


def link_in_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("SKILL.md", SKILL)
        zip_entry = zipfile.ZipInfo("out")
        zip_entry.external_attr = 0o120777 << 16
        packed.writestr(zip_entry, "/etc/passwd")
    return buffer.getvalue()


def test_a_folder_and_every_archive_format_give_the_same_skill(tmp_path: Path) -> None:
    within = {f"pdf-forms/{path}": data for path, data in FILES.items()}
    place = tmp_path / "pdf-forms"
    for path, data in {**FILES, ".git/config": b"x", "__pycache__/a.pyc": b"x"}.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(data)
    skills = [
        read_files(FILES),
        read_files({f"./{path}": data for path, data in within.items()}),
        read_archive(zipped({**within, "__MACOSX/._SKILL.md": b"x"}, folders=True)),
        read_archive(tarred(within, entry("pdf-forms/empty", tarfile.DIRTYPE))),
        read_archive(gzip.compress(tarred(FILES))),
        read_archive(bz2.compress(tarred(within))),
        read_folder(place),
    ]
    assert [skill.files for skill in skills] == [FILES] * len(skills)
    assert len({skill.archive() for skill in skills}) == 1
    assert unpack(skills[0].archive()) == FILES
    assert read_archive(skills[0].archive()) == skills[0]


def test_front_matter_is_read_as_in_the_skill_specification() -> None:
    front = (
        "name: a-1\ndescription: 'What: and when'\nlicense: MIT\ncompatibility: Needs git\n"
        "metadata: {version: 1.0, beta: true}\nallowed-tools: Bash(git:*) Read"
    )
    assert read_files(text(front)).front_matter == {
        "name": "a-1",
        "description": "What: and when",
        "license": "MIT",
        "compatibility": "Needs git",
        "metadata": {"version": "1.0", "beta": "true"},
        "allowed-tools": "Bash(git:*) Read",
    }


DESCRIBED = "description: x"


@pytest.mark.parametrize(
    "front",
    [
        *(
            f"name: {name}\n{DESCRIBED}"
            for name in ("A", "a_b", "-a", "a-", "a--b", "é", "a" * 65, "''", "1", "[a]")
        ),
        DESCRIBED,
        "name: a",
        "name: a\ndescription: ' '",
        f"name: a\ndescription: {'x' * 1025}",
        f"name: a\n{DESCRIBED}\nversion: '1'",
        f"name: a\n{DESCRIBED}\ncompatibility: {'x' * 501}",
        f"name: a\n{DESCRIBED}\nallowed-tools: [Read]",
        f"name: a\n{DESCRIBED}\nmetadata: [a]",
        f"name: a\n{DESCRIBED}\nmetadata: {{a: [b]}}",
        f"name: &a a\n{DESCRIBED}",
        f"name: !!str a\n{DESCRIBED}",
        "name: &a a\ndescription: *a",
        f"name: !!python/object/apply:os.system [id]\n{DESCRIBED}",
        "- name",
        "name: [",
    ],
)
def test_invalid_front_matter_is_refused(front: str) -> None:
    with pytest.raises(PorticoError) as error_info:
        read_files(text(front))
    assert (error_info.value.status, error_info.value.code, error_info.value.param) == (
        400,
        "invalid_skill",
        "files",
    )


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"README.md": SKILL},
        {"skill.md": SKILL},
        {"SKILL.md": b"# No front matter"},
        {"SKILL.md": b"\xff\xfe---"},
        {"other-name/SKILL.md": SKILL},
        {"a/SKILL.md": SKILL, "b/x": b""},
        {"SKILL.md": SKILL, "../out": b""},
        {"SKILL.md": SKILL, "/etc/passwd": b""},
        {"SKILL.md": SKILL, "a\\b": b""},
        {"SKILL.md": SKILL, "C:/x": b""},
        {"SKILL.md": SKILL, "a//b": b""},
        {"SKILL.md": SKILL, "a\nb": b""},
        {"SKILL.md": SKILL, "a": b"", "a/b": b""},
        {"SKILL.md": SKILL, "/".join("a" * 17): b""},
        {"SKILL.md": SKILL, "a" * 256: b""},
        {"SKILL.md": SKILL, "漢" * 86: b""},
        {"SKILL.md": SKILL, "Skill.MD": b""},
        {"SKILL.md": SKILL, "e\u0301": b"", "É": b""},
        {"SKILL.md": SKILL, "A": b"", "a/b": b""},
        *({"SKILL.md": SKILL, f"{name}/x": b""} for name in ("con", "Aux.tar.gz", "LPT1", "a.", "a ")),
        {"SKILL.md": SKILL + b" " * folder.MAX_TEXT_BYTES},
        {"SKILL.md": SKILL, **{str(number): b"" for number in range(folder.MAX_FILES)}},
    ],
)
def test_folders_that_are_not_a_valid_skill_are_refused(files: dict[str, bytes]) -> None:
    for read in (lambda: read_files(files), lambda: read_archive(zipped(files))):
        with pytest.raises(PorticoError) as error_info:
            read()
        assert (error_info.value.status, error_info.value.param) == (400, "files")


def test_archives_with_links_devices_and_bombs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "MAX_SKILL_BYTES", 2**20)
    monkeypatch.setattr(folder, "MAX_ARCHIVE_BYTES", 2**20)
    huge = b"\0" * (folder.MAX_SKILL_BYTES + 1)
    pax = tarfile.TarInfo("SKILL.md")
    pax.pax_headers = {"comment": "x" * (folder.MAX_SKILL_BYTES + folder.MAX_FILES * 4096)}
    archive = zipped(FILES)
    for data, status in (
        (link_in_zip(), 400),
        (tarred(FILES, entry("out", tarfile.SYMTYPE, "/etc/passwd")), 400),
        (tarred(FILES, entry("out", tarfile.LNKTYPE, "SKILL.md")), 400),
        (tarred(FILES, entry("out", tarfile.CHRTYPE)), 400),
        (tarred(FILES, entry("out", tarfile.FIFOTYPE)), 400),
        (tarred({"../SKILL.md": SKILL}), 400),
        (zipped({**FILES, "big": huge}), 413),
        (gzip.compress(tarred({**FILES, "big": huge})), 413),
        (gzip.compress(tarred({}, pax)), 400),
        (b"\0" * (folder.MAX_ARCHIVE_BYTES + 1), 413),
        (archive[:-30], 400),
        (gzip.compress(tarred(FILES))[:40], 400),
        (b"", 400),
        (b"hello", 400),
        (b"PK\x03\x04", 400),
    ):
        with pytest.raises(PorticoError) as error_info:
            read_archive(data)
        assert (error_info.value.status, error_info.value.param) == (status, "files")
    place = tmp_path / "pdf-forms"
    place.mkdir()
    (place / "SKILL.md").write_bytes(SKILL)
    (place / "out").symlink_to("/etc/passwd")
    with pytest.raises(PorticoError, match="is a link"):
        read_folder(place)


def block(name: str, kind: bytes, size: bytes, sparse: bytes = b"") -> bytes:
    """Return a tar header that no library writes; ``sparse`` starts at byte 386."""
    head = bytearray(512)
    for at, value in ((0, name.encode()), (124, size), (156, kind), (257, b"ustar\0" + b"00"), (386, sparse)):
        head[at : at + len(value)] = value
    head[148:156] = b" " * 8
    head[148:154] = b"%06o" % sum(head)
    return bytes(head)


def padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 512)


def test_archives_that_would_exhaust_memory_or_time_are_refused_immediately() -> None:
    skill = block("SKILL.md", b"0", b"%011o" % len(SKILL)) + padded(SKILL)
    hole = b"\0" * 97 + b"%011o" % 2**32
    digits, pax = b"1" * 2**16, b"34 GNU.sparse.realsize=4000000000\n"
    for hostile in (
        block("hole", b"S", b"0" * 11, hole),
        block("far", b"S", b"\x80" + (2**60).to_bytes(11, "big")),
        block("far", b"0", b"7" * 11),
        block("x", b"0", b"1x9"),
        block("x", b"x", b"%011o" % len(digits)) + digits,
        block("x", b"x", b"%011o" % len(pax)) + padded(pax) + skill,
        block("x", b"L", b"%011o" % 2**17) + padded(b"x" * 2**17) + skill,
        skill[:300],
        skill[:512],
        skill.replace(b"SKILL", b"skill", 1),
        (block("x", b"5", b"") * 10_001),
    ):
        with pytest.raises(PorticoError) as error_info:
            read_archive(skill + hostile)
        assert (error_info.value.status, error_info.value.code) == (400, "invalid_archive")
    for packed in (
        gzip.compress(skill) + gzip.compress(b"") * 10_000,
        gzip.compress(b"hello"),
        b"BZh9" + b"x",
    ):
        with pytest.raises(PorticoError) as error_info:
            read_archive(packed)
        assert error_info.value.code == "invalid_archive"


def test_an_archive_with_thousands_of_repeated_long_name_headers_is_accepted() -> None:
    headers = (block("././@LongLink", b"L", b"00000000012") + padded(b"SKILL.txt\0")) * 4_000
    headers += block("PaxHeader", b"x", b"00000000022") + padded(b"17 path=SKILL.md\n1")[:512].replace(
        b"\n1", b"\n\0"
    )
    skill = read_archive(headers + block("short", b"0", b"%011o" % len(SKILL)) + padded(SKILL))
    assert skill.files == {"SKILL.md": SKILL}
