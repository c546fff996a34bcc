"""The folder of a skill, as it is sent: checked by the specification, and packed into one archive.

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
from portico_server.core.untrusted_yaml import InvalidYaml, read_yaml

MB: Final = 2**20

SKILL_FILE: Final = "SKILL.md"

MAX_ARCHIVE_BYTES: Final = 16 * MB
"""Bytes of an archive that is sent, and of the files that are sent one by one, together."""

MAX_SKILL_BYTES: Final = 16 * MB
"""Bytes of all files of a skill."""

MAX_FILES: Final = 500
MAX_TEXT_BYTES: Final = 256 * 1024
"""Bytes of SKILL.md."""

MAX_PATH_CHARS: Final = 255
MAX_DEPTH: Final = 16
"""Folders within each other."""

MAX_NAME_CHARS: Final = 64
MAX_DESCRIPTION_CHARS: Final = 1_024
MAX_COMPATIBILITY_CHARS: Final = 500
MAX_METADATA: Final = 100
"""Entries of the metadata."""

NAME: Final = r"[a-z0-9]+(?:-[a-z0-9]+)*"
"""A pattern of the specification: small letters, digits and single hyphens within."""

FIELDS: Final = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")

_RATIO: Final = 1_000
"""How many times its size an archive may unpack to; what it unpacks to is bounded too."""

_FRONT: Final = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_PART: Final = re.compile(r"[^\x00-\x1f\x7f\\/:*?\"<>|]+")
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)
"""Names that mean devices on Windows, in every folder and with every ending."""

_MAX_PART_BYTES: Final = 255
"""Bytes that the name of one file has at most on nearly every system."""

_NOISE: Final = (".DS_Store", "Thumbs.db")
"""Files that systems leave in every folder."""

_MAX_ENTRIES: Final = 4 * MAX_FILES
"""Files and folders of an archive that is looked at."""

_refused: Final = refusal("taken as a skill", "files")


@dataclass(frozen=True, slots=True)
class SkillFolder:
    """A skill that is right. ``front_matter`` is that of its SKILL.md, ``files`` all of them by their paths."""

    name: str
    front_matter: Mapping[str, Any]
    files: Mapping[str, bytes]

    @property
    def sizes(self) -> list[tuple[str, int, str]]:
        """Path, bytes and SHA-256 of each file, by path."""
        return [
            (path, len(data), hashlib.sha256(data).hexdigest()) for path, data in sorted(self.files.items())
        ]

    def archive(self) -> bytes:
        """A zip archive with the folder in it: the same files give the same bytes."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zip_file:
            for path, data in sorted(self.files.items()):
                entry = zipfile.ZipInfo(f"{self.name}/{path}", (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o100644 << 16
                zip_file.writestr(entry, data)
        return buffer.getvalue()


def unpacked(data: bytes) -> dict[str, bytes]:
    """The files of an archive that this daemon has packed, by their paths within the skill."""
    with zipfile.ZipFile(io.BytesIO(data)) as zip_file:
        return {name.partition("/")[2]: zip_file.read(name) for name in zip_file.namelist()}


def read_archive(data: bytes) -> SkillFolder:
    """The skill in a zip or tar archive, compressed or not. Raises `InvalidRequest` with what is wrong, `TooLarge`."""
    if len(data) > MAX_ARCHIVE_BYTES:
        raise _too_large()
    if data.startswith(b"PK"):
        return read_files(_from_zip(data))
    return read_files(_from_tar(data))


def read_folder(folder: Path) -> SkillFolder:
    """The skill in a folder. Links are refused; hidden files and folders are left out."""
    files: dict[str, bytes] = {}
    if not folder.is_dir():
        raise InvalidRequest(f"There is no folder {folder}.", param="folder")
    total = 0
    for path in sorted(folder.rglob("*")):
        at = path.relative_to(folder)
        if any(part.startswith(".") or part == "__pycache__" for part in at.parts):
            continue
        if path.is_symlink():
            raise _wrong(f"'{at}' is a link; a skill has files and folders alone")
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
    """The skill of files by their paths, with or without its folder. Raises `InvalidRequest`, `TooLarge`."""
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
                f"there is no {SKILL_FILE}, in the folder itself or in the one folder that it holds; its name is "
                "written exactly so"
            )
        files = {path.partition("/")[2]: data for path, data in files.items()}
    _check_apart(files)
    front = _front_matter(files[SKILL_FILE])
    if folder and folder != front["name"]:
        raise _wrong(f"its folder is '{folder[:80]}' and its name '{front['name']}'; they must be the same")
    return SkillFolder(front["name"], front, files)


def _front_matter(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_TEXT_BYTES:
        raise _wrong(
            f"{SKILL_FILE} is larger than {MAX_TEXT_BYTES // 1024} KB; put details into files of their own"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _wrong(f"{SKILL_FILE} is not text in UTF-8") from error
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
                f"'{field[:80]}' is not a field of {SKILL_FILE}.{nearest(field, FIELDS)} Fields are "
                f"{', '.join(FIELDS)}; your own go under 'metadata'"
            )
    return _checked(value)


def _checked(value: Mapping[str, Any]) -> dict[str, Any]:
    name = _text(value, "name", MAX_NAME_CHARS)
    if re.fullmatch(NAME, name) is None:
        raise _wrong(
            f"the name '{name}' may have small letters, digits and single hyphens between them, and nothing else"
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
            raise _wrong(f"'metadata' must be at most {MAX_METADATA} texts by their names")
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
            key: str(one).lower() if isinstance(one, bool) else str(one) for key, one in metadata.items()
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
            f"{path[:100]!a} is not the path of a file in its folder: relative, without '..', of at most {MAX_DEPTH} "
            f"parts and {MAX_PATH_CHARS} characters, of names that every system has"
        )


def _check_apart(files: Mapping[str, bytes]) -> None:
    """Every file has a place of its own, on systems too that do not tell A from a, or é from e with an accent."""
    places = {_place(path): path for path in files}
    if len(places) < len(files):
        twice = next(path for path in files if places[_place(path)] != path)
        raise _wrong(f"'{twice}' and '{places[_place(twice)]}' are one file on many systems")
    for path in files:
        parts = path.split("/")
        for number in range(1, len(parts)):
            folder = "/".join(parts[:number])
            if _place(folder) in places:
                raise _wrong(f"'{folder}' is a file and a folder")


def _place(path: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _is_part(part: str) -> bool:
    """Whether a file or folder may be called so on every system, in a folder that somebody takes elsewhere too."""
    return (
        _PART.fullmatch(part) is not None
        and not part.endswith((".", " "))
        and len(part.encode()) <= _MAX_PART_BYTES
        and _DEVICE.fullmatch(part) is None
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
                raise _wrong(f"it has more than {MAX_FILES} files, or one of them twice")
            files[name] = content
    except TooLong as error:
        raise _too_large() from error
    return files


def _wrong(problem: str) -> InvalidRequest:
    return InvalidRequest(f"This is not a skill: {problem}.", code="invalid_skill", param="files")


def _too_large() -> TooLarge:
    return TooLarge(
        f"A skill may have {MAX_SKILL_BYTES // MB} MB in all. Leave large files out of it.",
        code="skill_too_large",
        param="files",
    )
