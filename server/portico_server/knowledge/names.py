"""Names of files and stores, and functions that validate them."""

from __future__ import annotations

import os
import re
import unicodedata
from urllib.parse import quote_from_bytes

from portico_server.core.errors import InvalidRequest
from portico_server.core.names import excerpt, is_name, is_plain

MAX_FILENAME_BYTES = 1_024
"""Maximum length of a file name in bytes of UTF-8."""


def check_filename(name: str, param: str = "file") -> str:
    """Return the name unchanged if it is valid: a relative path in any script, including emoji.

    Raises `InvalidRequest` for control characters and line breaks, ``..``, absolute paths, and names that are empty or
    longer than 1,024 bytes, because they could mislead a person, a log or a file system.
    """
    problem = _problem(name)
    if problem:
        shown_name = name[:80].encode("unicode_escape").decode("ascii")
        raise InvalidRequest(
            f"The file name '{shown_name}' {problem}. Rename the file and send it again.",
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
        return f"has {size} bytes; the maximum is {MAX_FILENAME_BYTES}"
    if any(_is_control(character) for character in name):
        return "contains a line break or another control character"
    parts = name.replace("\\", "/").split("/")
    if ".." in parts:
        return "contains '..'"
    if parts[0] == "" or re.fullmatch(r"[A-Za-z]:", parts[0]):
        return "is an absolute path; it must be relative"
    return ""


def _is_control(character: str) -> bool:
    # Cc are control characters, Zl and Zp line and paragraph separators; the listed characters override the
    # writing direction.
    return (
        unicodedata.category(character) in ("Cc", "Zl", "Zp") or character in "\u202a\u202b\u202c\u202d\u202e"
    )


def name_on_disk(relative: str) -> str:
    """Return a path below a followed folder as a valid file name, with invalid characters percent-encoded.

    Names are never rejected, because users cannot always rename the files of a folder.
    """
    text = relative.replace(os.sep, "/")
    if text.isprintable():  # contains no invalid characters
        return text
    return "".join(
        quote_from_bytes(os.fsencode(character), safe="") if _is_odd(character) else character
        for character in text
    )


def _is_odd(character: str) -> bool:
    return _is_control(character) or "\ud800" <= character <= "\udfff"


def is_store_name(name: str) -> bool:
    """Return whether a store name is valid in scopes, URLs and model lists, and cannot be mistaken for an id."""
    return is_name(name) and not name.startswith("vs_")


def check_store_name(name: str) -> str:
    """Return the name if `is_store_name` accepts it; otherwise raise `InvalidRequest`."""
    if not is_store_name(name):
        raise InvalidRequest(
            f"'{excerpt(name)}' is not a valid name for a store: use 1 to 128 characters, without control "
            "characters or any of : / \\ [ ] < > `, not beginning with 'vs_'.",
            code="invalid_name",
            param="name",
        )
    return name


def store_name(folder: str) -> str:
    """Return the name for a store that mirrors a folder with this name. The folder's name is changed only as far as
    necessary.
    """
    name = "".join(
        character if character not in ":/\\" and is_plain(character) else "-" for character in folder
    )
    name = name.strip()[:128].strip()
    return name if is_store_name(name) else f"docs-{name}".rstrip("-")[:128]
