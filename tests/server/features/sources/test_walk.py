"""Which files of a folder are examined, and under which names."""

import os
from pathlib import Path

import pytest
from tests.server.features.readers.unreadable import forbid

from portico_server.core.errors import Unavailable
from portico_server.features.readers import ocr
from portico_server.features.sources.walk import MAX_SKIPPED_NAMES, Walk, is_looked_at, walk


def walked(root: Path) -> list[str]:
    return sorted(walk(root, max_bytes=1000).files)


def test_hidden_ignored_and_unknown_files_are_skipped(tmp_path: Path) -> None:
    for name in (
        "keep.md",
        "LICENSE",
        ".hidden.md",
        ".git/config.txt",
        "node_modules/x.js",
        "a/__pycache__/x.py",
        ".venv/y.py",
        "photo.png",
        "sound.ogg",
        "empty",
        "big.txt",
        "old.doc",
        "letter.rtf",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(
            b"\x89PNG\x00\x01"
            if name in ("photo.png", "sound.ogg")
            else b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 and more"
            if name == "old.doc"
            else b"{\\rtf1\\ansi text}"
            if name == "letter.rtf"
            else b""
            if name == "empty"
            else b"text " * (500 if name == "big.txt" else 1)
        )
    result = walk(tmp_path, max_bytes=1000, pictures=False)
    assert sorted(result.files) == ["LICENSE", "keep.md"]
    assert result.skipped == {
        "empty": 1,
        "a recording, but no transcription model is configured": 1,
        "an Office document from before 2007": 1,
        "rich text (RTF)": 1,
        "larger than 0 MB": 1,
        f"a picture; {ocr.how_to_read()}": 1,
    }
    assert {result.skipped_names["empty"], result.skipped_names["old.doc"]} == {
        "empty",
        "an Office document from before 2007",
    }
    assert set(result.skipped_names) == {
        "photo.png",
        "sound.ogg",
        "empty",
        "big.txt",
        "old.doc",
        "letter.rtf",
    }
    assert "photo.png" in walk(tmp_path, max_bytes=1000, pictures=True).files
    files_with_recordings = walk(tmp_path, max_bytes=1000, recordings=True).files
    assert len(files_with_recordings) == len(result.files) + 2  # the picture and the recording


def test_links_are_followed_inside_the_folder_and_never_in_circles(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "a.txt").write_text("a")
    (root / "sub" / "up").symlink_to(root)
    (root / "self").symlink_to("self")
    (root / "gone").symlink_to("nowhere")
    (root / "out").symlink_to(outside)
    (root / "leak.txt").symlink_to(outside / "secret.txt")
    (root / "b.txt").symlink_to(root / "sub" / "a.txt")
    os.mkfifo(root / "pipe.txt")
    result = walk(root, max_bytes=1000)
    assert sorted(result.files) == ["b.txt", "sub/a.txt"]
    assert result.skipped == {"link out of the folder, or broken link": 4, "not a file": 1}


def test_the_root_may_be_a_link_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("a")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert walked(tmp_path / "link") == ["a.txt"]


def test_names_with_line_breaks_and_wrong_bytes_are_encoded(tmp_path: Path) -> None:
    (tmp_path / "two\nlines.txt").write_text("a")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/gb\xb8\xdf.txt")).write_text("b")
    assert walked(tmp_path) == ["gb%B8%DF.txt", "two%0Alines.txt"]


def test_a_root_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(monkeypatch, tmp_path.name)
    with pytest.raises(Unavailable, match="cannot be read"):
        walk(tmp_path, max_bytes=1000)


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ({".gitignore": "*.log\n"}, ["a.md", "sub/b.md", "sub/deep/c.txt"]),
        ({".porticoignore": "sub/\n"}, ["a.md", "x.log"]),
        (
            {".gitignore": "*.log\n", ".porticoignore": "!x.log\n"},
            ["a.md", "sub/b.md", "sub/deep/c.txt", "x.log"],
        ),
        ({".gitignore": "/b.md\n**/c.txt\n"}, ["a.md", "sub/b.md", "sub/deep/y.log", "x.log"]),
        (
            {".gitignore": "*.log\n", "sub/deep/.gitignore": "!y.log\n"},
            ["a.md", "sub/b.md", "sub/deep/c.txt", "sub/deep/y.log"],
        ),
        ({".gitignore": "# a comment\n\n!\n\\\n*.md\n"}, ["sub/deep/c.txt", "sub/deep/y.log", "x.log"]),
        ({".gitignore": "*\n!*/\n!*.txt\n"}, ["sub/deep/c.txt"]),
        ({".gitignore": b"\xff\xfe*.md\n*.log\n"}, ["a.md", "sub/b.md", "sub/deep/c.txt"]),
    ],
)
def test_ignore_files_decide_which_files_are_skipped(
    tmp_path: Path, rules: dict[str, str | bytes], left: list[str]
) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    for name in ("a.md", "x.log", "sub/b.md", "sub/deep/c.txt", "sub/deep/y.log"):
        (tmp_path / name).write_text("some words")
    for name, text in rules.items():
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert walked(tmp_path) == left


@pytest.mark.parametrize(
    ("name", "looked_at"),
    [
        ("a.md", True),
        ("deep/b.md", True),
        (".gitignore", True),
        ("deep/.porticoignore", True),
        (".hidden", False),
        (".git/index", False),
        ("web/node_modules/x/readme.md", False),
        ("", True),
    ],
)
def test_changes_in_hidden_or_dependency_folders_are_irrelevant(
    tmp_path: Path, name: str, looked_at: bool
) -> None:
    assert is_looked_at(tmp_path / name, tmp_path) is looked_at


def test_of_very_many_skipped_files_all_are_counted_and_some_are_named(tmp_path: Path) -> None:
    result = Walk()
    for number in range(MAX_SKIPPED_NAMES + 5):
        result.skip(f"{number}.bin", "of an unknown kind")
    assert result.skipped == {"of an unknown kind": MAX_SKIPPED_NAMES + 5}
    assert len(result.skipped_names) == MAX_SKIPPED_NAMES
