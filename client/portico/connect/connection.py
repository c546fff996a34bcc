"""Connections of clients on this machine: which files were written, their backups, and the key of each client.

A record per client is in this user's settings folder, readable only by the user, beside the backups of its files.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from portico import _sign_ins
from portico._filenames import filename_problem
from portico._private_file import write_file
from portico.connect.clients import Client, DaemonAccess, resolve
from portico.connect.edit import Format, drop_all, parse, put_all
from portico.connect.setting import Entry, Place, value_at
from portico.errors import Conflict, InvalidRequest

State = Literal["connected", "changed", "not connected"]

_CONTEXT_LINES: Final = 2
_BEARER: Final = "Bearer "
_KEY: Final = re.compile(r"pk-[A-Za-z0-9_-]{8,}")
"""A key of a daemon, which is not shown."""

_ENTRY: Final = "name="
"""Prefix of entries of lists in the record."""


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """A change of a file's content. ``former`` and ``content`` are ``None`` if the file does not exist.

    ``shows_text``: the change is shown as a diff, not only the path of the file.
    """

    path: Path
    former: bytes | None
    content: bytes | None
    shows_text: bool = True

    @property
    def verb(self) -> str:
        """The verb that describes the change."""
        return "create" if self.former is None else "remove" if self.content is None else "change"

    def show(self) -> str:
        """Return the change as a unified diff, or as one line."""
        if not self.shows_text:
            return f"{self.verb} {self.path}"
        former, content = (
            (data or b"").decode("utf-8", "replace").splitlines() for data in (self.former, self.content)
        )
        name = str(self.path)
        lines = difflib.unified_diff(
            former,
            content,
            name if self.former is not None else os.devnull,
            name if self.content is not None else os.devnull,
            lineterm="",
            n=_CONTEXT_LINES,
        )
        return _KEY.sub("pk-…", "\n".join(lines))

    def write(self) -> None:
        """Write the file atomically. Links and the permissions of an existing file stay; a new file is private."""
        path = self.path.resolve()
        if self.content is None:
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
        write_file(path, self.content, mode)


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that a connection has written. ``backup`` is the name of the file with its former content, empty if the
    file did not exist; ``sha256`` is that of the written content. ``settings`` maps places, as JSON, to the SHA-256
    of their values.
    """

    path: str
    file_format: Format
    backup: str
    sha256: str
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ConnectedClient:
    """A connected client. ``skills`` maps the files of skills to the SHA-256 of their content. ``folders`` did not
    exist before.
    """

    client: str
    url: str
    key_id: str
    files: Sequence[WrittenFile]
    skills: Mapping[str, str]
    folders: Sequence[str]


def read_connection(name: str) -> ConnectedClient | None:
    """Return the connection of a client, or ``None`` if it is not connected."""
    try:
        document = json.loads(_record(name).read_text(encoding="utf-8"))
        files = [WrittenFile(**entry) for entry in document.pop("files")]
        return ConnectedClient(**document, files=files)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidRequest(
            f"{_record(name)} is damaged. Remove Portico's entries from the client's files, and delete this folder.",
            param="client",
        ) from error


def plan_connection(client: Client, link: DaemonAccess) -> list[ConfigChange]:
    """Return the changes that connect a client. An earlier connection is replaced. Raises `InvalidRequest`."""
    changes = {change.path: change for change in _restored_files(client)}
    for config_file in client.files:
        settings, path = config_file.settings(link), config_file.path()
        if settings:
            data = _read(path)
            original = changes.get(path, ConfigChange(path, data, data)).content or b""
            document = parse(original, config_file.file_format, str(path))
            missing_values = {
                place: value
                for place, value in config_file.new_file.items()
                if value_at(document, place) is None
            }
            content = put_all(original, config_file.file_format, {**missing_values, **settings}, str(path))
            changes[path] = ConfigChange(path, data, content)
    return [change for change in changes.values() if change.former != change.content]


def plan_removal(client: Client) -> list[ConfigChange]:
    """Return the changes that disconnect a client. A file that has not changed since gets its former bytes."""
    connection = read_connection(client.name)
    skills = [
        ConfigChange(Path(path), data, None, shows_text=False)
        for path, sha256 in (connection.skills.items() if connection is not None else ())
        if (data := _read(Path(path))) is not None and _sha256(data) == sha256
    ]
    changes = [*_restored_files(client), *skills]
    return [change for change in changes if change.former != change.content]


def plan_skills(client: Client, archives: Mapping[str, bytes]) -> list[ConfigChange]:
    """Return the files of skills for a client. ``archives`` are zip archives by the names of the skills. A skill that
    the client already has from elsewhere stays.
    """
    if not client.skills:
        return []
    connection, folder = read_connection(client.name), resolve(client.skills)
    own_files = connection.skills if connection is not None else {}
    changes = []
    for name, archive in archives.items():
        if (folder / name).exists() and str(folder / name / "SKILL.md") not in own_files:
            continue
        changes += [
            ConfigChange(path, _read(path), data, shows_text=False)
            for path, data in _files_of(name, archive, folder)
        ]
    return [change for change in changes if change.former != change.content]


def apply(
    client: Client,
    link: DaemonAccess,
    key_id: str,
    changes: Sequence[ConfigChange],
    skills: Sequence[ConfigChange],
) -> None:
    """Write the files of a connection, after their backups and the record."""
    former = read_connection(client.name)
    originals = {change.path: change.content for change in _restored_files(client)}
    contents = {change.path: change.content for change in changes}
    written_files = []
    for number, config_file in enumerate(client.files):
        path, settings = config_file.path(), config_file.settings(link)
        if settings:
            original = originals.get(path, _read(path))
            backup = f"{number}.backup" if original is not None else ""
            if original is not None:
                ConfigChange(_folder(client.name) / backup, None, original).write()
            sha256 = _sha256(contents.get(path) or _read(path) or b"")
            values = {_to_json(place): _sha256(_canonical(value)) for place, value in settings.items()}
            written_files.append(WrittenFile(str(path), config_file.file_format, backup, sha256, values))
    connection = ConnectedClient(
        client.name,
        link.url,
        key_id,
        written_files,
        {
            **(former.skills if former is not None else {}),
            **{str(change.path): _sha256(change.content or b"") for change in skills},
        },
        [*(former.folders if former is not None else ()), *_new_folders([*changes, *skills])],
    )
    ConfigChange(_record(client.name), None, json.dumps(asdict(connection), indent=2).encode()).write()
    for change in [*changes, *skills]:
        change.write()


def disconnect(client: Client, changes: Sequence[ConfigChange]) -> None:
    """Write the changes of `plan_removal`, and remove the record, the backups and the folders that are empty now."""
    connection = read_connection(client.name)
    for change in changes:
        change.write()
    for folder in sorted(connection.folders if connection is not None else (), key=len, reverse=True):
        if Path(folder).is_dir() and not any(Path(folder).iterdir()):
            Path(folder).rmdir()
    shutil.rmtree(_folder(client.name), ignore_errors=True)


def state_of(client: Client) -> tuple[State, str]:
    """Return whether the client's files still have the values of its connection, and the reason if not."""
    connection = read_connection(client.name)
    if connection is None:
        return "not connected", ""
    for entry in connection.files:
        data = _read(Path(entry.path))
        if data is None:
            return "changed", f"{entry.path} does not exist"
        document = parse(data, entry.file_format, entry.path)
        for place, sha256 in entry.settings.items():
            if _sha256(_canonical(value_at(document, _from_json(place)))) != sha256:
                return "changed", f"{entry.path} has another value at {'.'.join(json.loads(place))}"
    return "connected", ""


def key_in_files(connection: ConnectedClient) -> str:
    """Return the key in the files of a connection, or an empty text."""
    for entry in connection.files:
        data = _read(Path(entry.path))
        document = parse(data, entry.file_format, entry.path) if data else None
        for place in entry.settings:
            for text in _texts(value_at(document, _from_json(place))):
                if text.startswith(_BEARER):
                    return text.removeprefix(_BEARER)
    return ""


def _restored_files(client: Client) -> list[ConfigChange]:
    """Return the changes that give the files of a connection their former content.

    A file that has changed since keeps its other changes.
    """
    connection = read_connection(client.name)
    changes = []
    for entry in connection.files if connection is not None else ():
        path = Path(entry.path)
        data = _read(path)
        backup = _read(_folder(client.name) / entry.backup) if entry.backup else None
        if data is None or _sha256(data) == entry.sha256:
            changes.append(ConfigChange(path, data, None if data is None else backup))
            continue
        settings = {_from_json(place): None for place in entry.settings}
        former = parse(backup or b"", entry.file_format, entry.path)
        changes.append(
            ConfigChange(path, data, drop_all(data, entry.file_format, settings, former, entry.path))
        )
    return changes


def _new_folders(changes: Sequence[ConfigChange]) -> list[str]:
    """Return the folders that writing these changes will create."""
    folders = {folder for change in changes for folder in change.path.parents if not folder.exists()}
    return sorted(map(str, folders))


def _files_of(skill: str, archive: bytes, folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield the files in the archive of a skill. Raise `Conflict` for a file outside the skill's folder."""
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        for member in packed.infolist():
            if member.is_dir():
                continue
            if filename_problem(member.filename) or member.filename.partition("/")[0] != skill:
                raise Conflict(f"The skill '{skill}' contains an unexpected file: {member.filename!r}.")
            yield folder / member.filename, packed.read(member)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _folder(name: str) -> Path:
    return _sign_ins.folder() / "connections" / name


def _record(name: str) -> Path:
    return _folder(name) / "connection.json"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _to_json(place: Place) -> str:
    return json.dumps([step if isinstance(step, str) else f"{_ENTRY}{step.name}" for step in place])


def _from_json(text: str) -> Place:
    steps: list[str] = json.loads(text)
    return tuple(Entry(step.removeprefix(_ENTRY)) if step.startswith(_ENTRY) else step for step in steps)
