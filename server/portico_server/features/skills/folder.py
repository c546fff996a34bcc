"""The folder of an uploaded skill: validated against the specification, and packed into one archive.

Source: https://agentskills.io/specification.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
import unicodedata
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from portico_server.archives.reader import ArchiveReader, refusal
from portico_server.archives.tar import TooLong, read_tar
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, TooLarge, nearest
from portico_server.core.filenames import DEVICE, MAX_PART_BYTES
from portico_server.core.untrusted_yaml import InvalidYaml, read_yaml

MB: Final = 2**20

SKILL_FILE: Final = "SKILL.md"

MAX_ARCHIVE_BYTES: Final = 16 * MB
"""Maximum size of an uploaded archive, and of individually uploaded files together, in bytes."""

MAX_SKILL_BYTES: Final = 16 * MB
"""Maximum total size of the files of a skill, in bytes."""

MAX_FILES: Final = 500
MAX_TEXT_BYTES: Final = 256 * 1024
"""Maximum size of SKILL.md, in bytes."""

MAX_PATH_CHARS: Final = 255
MAX_DEPTH: Final = 16
"""Maximum depth of nested folders."""

MAX_NAME_CHARS: Final = 64
MAX_DESCRIPTION_CHARS: Final = 1_024
MAX_COMPATIBILITY_CHARS: Final = 500
MAX_METADATA: Final = 100
"""Maximum number of metadata entries."""

NAME: Final = r"[a-z0-9]+(?:-[a-z0-9]+)*"
"""The specification's pattern of names: lower-case letters and digits, with single hyphens between them."""

FIELDS: Final = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")

_RATIO: Final = 1_000
"""Maximum compression ratio of an archive. The unpacked size is limited as well."""

_FRONT: Final = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_PART: Final = re.compile(r"[^\x00-\x1f\x7f\\/:*?\"<>|]+")
_NOISE: Final = (".DS_Store", "Thumbs.db")
"""Files that operating systems leave in every folder."""

_MAX_ENTRIES: Final = 4 * MAX_FILES
"""Maximum number of entries of an archive, files and folders, that are read."""

_refused: Final = refusal("accepted as a skill", "files")


@dataclass(frozen=True, slots=True)
class SkillFolder:
    """A valid skill. ``front_matter`` is the front matter of its SKILL.md; ``files`` are all files, keyed by path."""

    name: str
    front_matter: Mapping[str, Any]
    files: Mapping[str, bytes]

    @property
    def sizes(self) -> list[tuple[str, int, str]]:
        """Return the path, size in bytes and SHA-256 of each file, sorted by path."""
        return [
            (path, len(data), hashlib.sha256(data).hexdigest()) for path, data in sorted(self.files.items())
        ]

    def archive(self) -> bytes:
        """Return a zip archive of the folder. The same files always yield the same bytes."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zip_file:
            for path, data in sorted(self.files.items()):
                entry = zipfile.ZipInfo(f"{self.name}/{path}", (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o100644 << 16
                zip_file.writestr(entry, data)
        return buffer.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """Return the files of an archive that this daemon packed, keyed by their paths within the skill."""
    with zipfile.ZipFile(io.BytesIO(data)) as zip_file:
        return {name.partition("/")[2]: zip_file.read(name) for name in zip_file.namelist()}


def read_archive(data: bytes) -> SkillFolder:
    """Read the skill in a zip or tar archive, compressed or not.

    Raise `InvalidRequest` that names the problem, `TooLarge`.
    """
    if len(data) > MAX_ARCHIVE_BYTES:
        raise _too_large()
    if data.startswith(b"PK"):
        return read_files(_from_zip(data))
    return read_files(_from_tar(data))


def read_folder(folder: Path) -> SkillFolder:
    """Read the skill in a folder. Links are rejected; hidden files and folders are skipped."""
    files: dict[str, bytes] = {}
    if not folder.is_dir():
        raise InvalidRequest(f"The folder {folder} does not exist.", param="folder")
    total = 0
    for path in sorted(folder.rglob("*")):
        at = path.relative_to(folder)
        if any(part.startswith(".") or part == "__pycache__" for part in at.parts):
            continue
        if path.is_symlink():
            raise _wrong(f"'{at}' is a link; a skill can contain only files and folders")
        if path.is_dir():
            continue
        if not path.is_file():
            raise _wrong(f"'{at}' is neither a file nor a folder")
        total += path.stat().st_size
        if total > MAX_SKILL_BYTES:
            raise _too_large()
        files[f"{folder.resolve().name}/{at.as_posix()}"] = path.read_bytes()
    return read_files(files)


def read_files(given_files: Mapping[str, bytes]) -> SkillFolder:
    """Read the skill from files, keyed by path. Paths can include the skill's folder. Raise `InvalidRequest`,
    `TooLarge`.
    """
    files = {path.removeprefix("./"): data for path, data in given_files.items() if not _is_noise(path)}
    if len(files) > MAX_FILES:
        raise _wrong(f"it has more than {MAX_FILES} files")
    if sum(map(len, files.values())) > MAX_SKILL_BYTES:
        raise _too_large()
    for path in files:
        _check_path(path)
    folder = ""
    if SKILL_FILE not in files:
        tops = {path.partition("/")[0] for path in files}
        folder = tops.pop() if len(tops) == 1 else ""
        if not folder or f"{folder}/{SKILL_FILE}" not in files:
            raise _wrong(
                f"{SKILL_FILE} is missing, in the folder itself or in its only subfolder; the name must be "
                "spelled exactly like this"
            )
        files = {path.partition("/")[2]: data for path, data in files.items()}
    _check_apart(files)
    front = _front_matter(files[SKILL_FILE])
    if folder and folder != front["name"]:
        raise _wrong(
            f"its folder is '{folder[:80]}' and its name is '{front['name']}'; folder and name must be the "
            "same"
        )
    return SkillFolder(front["name"], front, files)


def _front_matter(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_TEXT_BYTES:
        raise _wrong(
            f"{SKILL_FILE} is larger than {MAX_TEXT_BYTES // 1024} KB; move details to separate files"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _wrong(f"{SKILL_FILE} is not UTF-8 text") from error
    front = _FRONT.match(text)
    if front is None:
        raise _wrong(f"{SKILL_FILE} must begin with front matter: YAML between two lines of ---")
    try:
        value = read_yaml(front[1], plain=True)
    except InvalidYaml as error:
        raise _wrong(f"the front matter of {SKILL_FILE} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise _wrong(f"the front matter of {SKILL_FILE} must be fields with values")
    for field in value:
        if field not in FIELDS:
            raise _wrong(
                f"'{field[:80]}' is not a field of {SKILL_FILE}.{nearest(field, FIELDS)} Valid fields: "
                f"{', '.join(FIELDS)}; put your own fields under 'metadata'"
            )
    return _check(value)


def _check(value: Mapping[str, Any]) -> dict[str, Any]:
    name = _text(value, "name", MAX_NAME_CHARS)
    if re.fullmatch(NAME, name) is None:
        raise _wrong(
            f"the name '{name}' can contain only lower-case letters, digits and single hyphens between them"
        )
    frontmatter: dict[str, Any] = {
        "name": name,
        "description": _text(value, "description", MAX_DESCRIPTION_CHARS),
    }
    for field, limit in (
        ("license", MAX_DESCRIPTION_CHARS),
        ("compatibility", MAX_COMPATIBILITY_CHARS),
        ("allowed-tools", MAX_DESCRIPTION_CHARS),
    ):
        if value.get(field) is not None:
            frontmatter[field] = _text(value, field, limit)
    metadata = value.get("metadata")
    if metadata is not None:
        if not isinstance(metadata, dict) or len(metadata) > MAX_METADATA:
            raise _wrong(f"'metadata' must map at most {MAX_METADATA} names to texts")
        for key, metadata_value in metadata.items():
            if (
                isinstance(metadata_value, dict | list)
                or metadata_value is None
                or max(len(key), len(str(metadata_value))) > MAX_DESCRIPTION_CHARS
            ):
                raise _wrong(
                    f"'metadata.{key[:80]}' must be a text of at most {MAX_DESCRIPTION_CHARS} characters"
                )
        frontmatter["metadata"] = {
            key: str(entry).lower() if isinstance(entry, bool) else str(entry)
            for key, entry in metadata.items()
        }
    return frontmatter


def _text(value: Mapping[str, Any], field: str, limit: int) -> str:
    field_text = value.get(field)
    if not isinstance(field_text, str) or not field_text.strip() or len(field_text) > limit:
        raise _wrong(
            f"'{field}' in the front matter of {SKILL_FILE} must be a text of 1 to {limit} characters"
        )
    return field_text.strip()


def _is_noise(path: str) -> bool:
    return path.startswith("__MACOSX/") or path.rpartition("/")[2] in _NOISE


def _check_path(path: str) -> None:
    parts = path.split("/")
    fits = len(path) <= MAX_PATH_CHARS and len(parts) <= MAX_DEPTH and path.isprintable()
    if not fits or any(not _is_part(part) for part in parts):
        raise _wrong(
            f"{path[:100]!a} is not a valid path of a file in its folder: use a relative path without '..', "
            f"of at most {MAX_DEPTH} parts and {MAX_PATH_CHARS} characters, with names that are valid on "
            "every system"
        )


def _check_apart(files: Mapping[str, bytes]) -> None:
    """Check that paths differ on every system, even where A and a, or two forms of an accented letter, are the same."""
    places = {_place(path): path for path in files}
    if len(places) < len(files):
        twice = next(path for path in files if places[_place(path)] != path)
        raise _wrong(f"'{twice}' and '{places[_place(twice)]}' are the same file on many systems")
    for path in files:
        parts = path.split("/")
        for number in range(1, len(parts)):
            folder = "/".join(parts[:number])
            if _place(folder) in places:
                raise _wrong(f"'{folder}' is both a file and a folder")


def _place(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _is_part(part: str) -> bool:
    """Return whether a file or folder name is valid on every system, because skills are moved between systems."""
    return (
        _PART.fullmatch(part) is not None
        and not part.endswith((".", " "))
        and len(part.encode()) <= MAX_PART_BYTES
        and DEVICE.fullmatch(part) is None
    )


def _from_zip(data: bytes) -> dict[str, bytes]:
    with tempfile.NamedTemporaryFile(prefix="portico-skill-") as file:
        file.write(data)
        file.flush()
        reader = ArchiveReader(
            Path(file.name), lambda _name: True, _RATIO, _refused, max_entries=_MAX_ENTRIES, folders=True
        )
        try:
            if len(reader.sizes) > MAX_FILES:
                raise _wrong(f"it has more than {MAX_FILES} files")
            if sum(reader.sizes.values()) > MAX_SKILL_BYTES:
                raise _too_large()
            return {name: b"".join(reader.blocks(name)) for name in reader.sizes}
        finally:
            reader.close()


def _from_tar(data: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        for name, content in read_tar(io.BytesIO(data), MAX_SKILL_BYTES + MAX_FILES * 2_048, _refused):
            if name in files or len(files) >= MAX_FILES:
                raise _wrong(f"it has more than {MAX_FILES} files, or a file twice")
            files[name] = content
    except TooLong as error:
        raise _too_large() from error
    return files


def _wrong(problem: str) -> InvalidRequest:
    return InvalidRequest(f"This is not a valid skill: {problem}.", code="invalid_skill", param="files")


def _too_large() -> TooLarge:
    return TooLarge(
        f"A skill can have at most {MAX_SKILL_BYTES // MB} MB in total. Leave out large files.",
        code="skill_too_large",
        param="files",
    )
