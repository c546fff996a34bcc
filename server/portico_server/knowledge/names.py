"""Names of files and stores, checked once on entry."""

from __future__ import annotations

import os
import re
import unicodedata
from urllib.parse import quote_from_bytes

from portico_server.core.errors import InvalidRequest
from portico_server.core.names import is_name, is_plain, shown

MAX_FILENAME_BYTES = 1_024
"""Bytes of a file name, in UTF-8."""


def check_filename(name: str, param: str = "file") -> str:
    """The name as it was given, if it is one: a relative path in any script, emoji included.

    Raises `InvalidRequest` for control characters and line breaks, ``..``, absolute paths, and names that are empty
    or longer than 1,024 bytes: such a name could mislead a person, a log or a file system.
    """
    problem = _problem(name)
    if problem:
        shown_name = name[:80].encode("unicode_escape").decode("ascii")
        raise InvalidRequest(
            f"The file name '{shown_name}' {problem}. Send the file under another name.",
            code="invalid_filename",
            param=param,
        )
    return name


def _problem(name: str) -> str:
    if not name.strip():
        return "is empty"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if size > MAX_FILENAME_BYTES:
        return f"has {size} bytes; at most {MAX_FILENAME_BYTES} are allowed"
    if any(_is_control(character) for character in name):
        return "contains a line break or another control character"
    parts = name.replace("\\", "/").split("/")
    if ".." in parts:
        return "contains '..'"
    if parts[0] == "" or re.fullmatch(r"[A-Za-z]:", parts[0]):
        return "is an absolute path; a relative one was expected"
    return ""


def _is_control(character: str) -> bool:
    # Cc: control characters; Zl and Zp: line and paragraph separators; the rest: overrides of the writing direction.
    return (
        unicodedata.category(character) in ("Cc", "Zl", "Zp") or character in "\u202a\u202b\u202c\u202d\u202e"
    )


def name_on_disk(relative: str) -> str:
    """A path below a followed folder as a file name: what `check_filename` would refuse is percent-encoded.

    A folder is not ours to rename, so no name in it is refused.
    """
    text = relative.replace(os.sep, "/")
    if text.isprintable():  # nothing odd is
        return text
    return "".join(
        quote_from_bytes(os.fsencode(character), safe="") if _is_odd(character) else character
        for character in text
    )


def _is_odd(character: str) -> bool:
    return _is_control(character) or "\ud800" <= character <= "\udfff"


def is_store_name(name: str) -> bool:
    """Whether scopes, addresses and model lists can carry this name, and it is not like an id."""
    return is_name(name) and not name.startswith("vs_")


def check_store_name(name: str) -> str:
    """The name, if `is_store_name`; otherwise `InvalidRequest` that says what was expected."""
    if not is_store_name(name):
        raise InvalidRequest(
            f"'{shown(name)}' cannot be the name of a store: 1 to 128 characters were expected, without control "
            "characters and none of : / \\ [ ] < > `, not beginning with 'vs_'.",
            code="invalid_name",
            param="name",
        )
    return name


def store_name(folder: str) -> str:
    """The name of the store that mirrors a folder of this name: the same, as far as it can be."""
    name = "".join(
        character if character not in ":/\\" and is_plain(character) else "-" for character in folder
    )
    name = name.strip()[:128].strip()
    return name if is_store_name(name) else f"docs-{name}".rstrip("-")[:128]
