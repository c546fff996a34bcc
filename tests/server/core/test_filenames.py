"""Names of files: which are valid, which are refused, and what replaces the others."""

from __future__ import annotations

import os

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.core.filenames import check_filename, to_filename


@pytest.mark.parametrize(
    "name",
    [
        "a.txt",
        "naïve 文档 😀.pdf",
        "folder/inside.md",
        "..hidden..",
        "a:b.txt",
        ".env",
        "console.md",
        "com10.txt",
        "x" * 251 + ".txt",
        "文" * 85,
        "/".join(["x" * 255] * 4),
    ],
)
def test_a_valid_name_stays_unchanged(name: str) -> None:
    assert check_filename(name) == name == to_filename(name)


@pytest.mark.parametrize(
    ("name", "problem", "replacement"),
    [
        ("", "is empty", ""),
        ("  ", "is empty", "%20 "),
        (".", "only dots", "%2E"),
        ("..", r"contains '\.\.'", "%2E."),
        ("...", "only dots", "%2E.."),
        ("a/./b", "only dots", "a/%2E/b"),
        ("a/ /b", "spaces", "a/%20/b"),
        ("a//b", "an empty part", "a/%2F/b"),
        ("a/", "an empty part", "a/%2F"),
        ("../x", r"contains '\.\.'", "%2E./x"),
        ("a/../../b", r"contains '\.\.'", "a/%2E./%2E./b"),
        ("a\\..\\b", r"contains '\.\.'", "a%5C..%5Cb"),
        ("a\\b", "a backslash", "a%5Cb"),
        ("/etc/passwd", "absolute", "%2F/etc/passwd"),
        ("C:/boot.ini", "absolute", "%43%3A/boot.ini"),
        ("C:\\boot.ini", "absolute", "C:%5Cboot.ini"),
        ("a\nb.txt", "line break", "a%0Ab.txt"),
        ("a\x00b", "control character", "a%00b"),
        ("a\x7fb", "control character", "a%7Fb"),
        ("a\u2028b", "line break", "a%E2%80%A8b"),
        ("cod\u202etxt.exe", "control character", "cod%E2%80%AEtxt.exe"),
        ("cod\u2067txt.exe", "control character", "cod%E2%81%A7txt.exe"),
        ("con", "a device", "%63on"),
        ("docs/Aux.md", "a device", "docs/%41ux.md"),
        ("LPT1 .tar.gz", "a device", "%4CPT1 .tar.gz"),
        ("COM³", "a device", "%43OM³"),
        ("x" * 252 + ".txt", "256 bytes", "x" * 200 + "~dfc26c52.txt"),
        ("文" * 86, "258 bytes", "文" * 66 + "~9396894c"),
        ("a." + "x" * 254, "256 bytes", "a." + "x" * 198 + "~3abe75bb"),
        ("bad\udcff", "not valid Unicode", "bad%FF"),
    ],
)
def test_a_name_that_misleads_is_refused_or_visibly_replaced(
    name: str, problem: str, replacement: str
) -> None:
    with pytest.raises(InvalidRequest, match=problem) as error_info:
        check_filename(name)
    assert error_info.value.message.isprintable()
    assert to_filename(name) == replacement
    assert not replacement or check_filename(replacement) == replacement


def test_a_too_long_path_is_refused_but_not_shortened() -> None:
    name = "/".join(["x" * 250] * 5)
    assert to_filename(name) == name
    with pytest.raises(InvalidRequest, match="1254 bytes"):
        check_filename(name)


def test_a_replaced_folder_name_is_the_same_for_all_its_files() -> None:
    folder = os.fsdecode(b"con/gb\xb8\xdf/" + b"\xb8" * 250)
    assert to_filename(f"{folder}/a.txt").startswith(f"{to_filename(folder)}/")
