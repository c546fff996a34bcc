"""Names of files: one rule for every way in which a file arrives at the daemon or is saved by a client, and visible
replacements for invalid names.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from typing import Final

MAX_FILENAME_BYTES: Final = 1_024
"""Maximum length of a file name, with its folders, in bytes of UTF-8."""

MAX_PART_BYTES: Final = 255
"""Maximum length of a part between slashes in bytes of UTF-8, as on nearly every file system."""

DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\..*)?", re.IGNORECASE)
"""Device names on Windows, which are reserved in every folder and with every extension."""

_DIRECTIONS: Final = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that override the writing direction."""

_DRIVE: Final = re.compile(r"[A-Za-z]:")
_SHORT_BYTES: Final = 200
_MAX_SUFFIX_CHARS: Final = 20


def to_filename(path: str) -> str:
    """Return a path in a folder, an archive or another source as a valid file name.

    Such names are never rejected, because users cannot always change them. Invalid characters are percent-encoded, and
    a part that is too long is shortened. Each part changes by itself, so a folder has the same name in all its files.
    """
    text = path.replace(os.sep, "/")
    if not text or not filename_problem(text):
        return text
    drive, *parts = text.split("/")
    if _DRIVE.fullmatch(drive):
        drive = _encoded(drive)
    return "/".join(_to_part(part) for part in (drive, *parts))


def to_local_filename(name: str) -> str:
    """Return the name under which a client saves a file whose name the daemon chose: without a folder, a drive or a
    stream (Windows), never hidden, and valid.
    """
    part = name.replace("\\", "/").rpartition("/")[2].replace(":", "%3A")
    return to_filename(f"%2E{part[1:]}" if part.startswith(".") else part) or "file"


def filename_problem(name: str) -> str:
    """Return why a name is not a valid relative path, as the end of a sentence; "" for a valid name.

    Invalid are names that could mislead a person, a log or a file system: with control characters, backslashes, parts
    that are empty, only dots, reserved or too long, and absolute paths.
    """
    if not name.strip():
        return "is empty"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if size > MAX_FILENAME_BYTES:
        return f"has {size} bytes; the maximum is {MAX_FILENAME_BYTES}"
    if not name.isprintable() and any(map(_is_control, name)):
        return "contains a line break or another control character"
    parts = name.replace("\\", "/").split("/")
    if ".." in parts:
        return "contains '..'"
    if parts[0] == "" or _DRIVE.fullmatch(parts[0]):
        return "is an absolute path; it must be relative"
    if "\\" in name:
        return "contains a backslash; write '/' between folders"
    return next(filter(None, map(_problem_of_part, parts)), "")


def _problem_of_part(part: str) -> str:
    if not part.strip(". "):
        return "has an empty part, or a part of only dots or spaces"
    if DEVICE.fullmatch(part):
        return f"contains '{part}', which is a device on Windows"
    size = len(part.encode())
    if size > MAX_PART_BYTES:
        return f"has a part of {size} bytes; the maximum is {MAX_PART_BYTES}"
    return ""


def _is_control(character: str) -> bool:
    # Cc are control characters, Zl and Zp line and paragraph separators.
    return unicodedata.category(character) in ("Cc", "Zl", "Zp") or character in _DIRECTIONS


def _to_part(part: str) -> str:
    text = "".join(_encoded(character) if _is_invalid(character) else character for character in part)
    if not text.strip(". ") or DEVICE.fullmatch(text):
        text = _encoded(text[:1] or "/") + text[1:]
    if len(text.encode()) <= MAX_PART_BYTES:
        return text
    stem, dot, suffix = text.rpartition(".")
    if not dot or len(suffix) > _MAX_SUFFIX_CHARS or not suffix.isascii():
        stem, dot, suffix = text, "", ""
    short_stem = stem.encode()[:_SHORT_BYTES].decode(errors="ignore")
    return f"{short_stem}~{hashlib.sha256(text.encode()).hexdigest()[:8]}{dot}{suffix}"


def _is_invalid(character: str) -> bool:
    return character == "\\" or "\ud800" <= character <= "\udfff" or _is_control(character)


def _encoded(text: str) -> str:
    # Names on disk contain surrogates for bytes that are not UTF-8, names from JSON also any other surrogate.
    errors = "surrogateescape" if "\udc80" <= text <= "\udcff" else "surrogatepass"
    return "".join(f"%{byte:02X}" for byte in text.encode(errors=errors))
