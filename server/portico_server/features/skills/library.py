"""The shared skills and the skills of each key, in versions."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from portico_server.core import pools
from portico_server.core.binding import find_meant
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, nearest
from portico_server.core.ids import is_id, new_id
from portico_server.core.principal import Principal
from portico_server.core.registry import owner_of
from portico_server.core.skills import SkillText
from portico_server.core.words import whole_number
from portico_server.db import skills as rows
from portico_server.db.database import Database
from portico_server.db.names import as_meant, own_or_shared
from portico_server.db.rows import Order, RowPage
from portico_server.db.skills import SkillBounds, SkillRow, SkillVersionRow
from portico_server.features.skills.folder import SKILL_FILE, SkillFolder, read_archive, unpack
from portico_server.runs.quotas import StorageQuota

BOUNDS: Final = SkillBounds(skills=200, versions=100)

FROM_FILE: Final = "configuration"
"""Origin of a skill that comes from a configuration file."""


@dataclass(frozen=True, slots=True)
class StoredSkill:
    """One version of a skill, and the skill that it belongs to."""

    row: SkillRow
    version: SkillVersionRow

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def description(self) -> str:
        return self.version.description


MAX_SKILLS: Final = 20

SKILLS_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "array",
    "maxItems": MAX_SKILLS,
    "description": "Skills whose scripts and files are used: they are at /skills/NAME.",
    "items": {
        "oneOf": [
            {"type": "string", "maxLength": 100, "description": "A name."},
            {
                "type": "object",
                "properties": {
                    "skill": {"type": "string", "maxLength": 100},
                    "version": {
                        "type": "string",
                        "maxLength": 20,
                        "description": "A number, latest or default.",
                    },
                },
                "required": ["skill", "version"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"archive": {"type": "string", "description": "A zip archive as base64."}},
                "required": ["archive"],
                "additionalProperties": False,
            },
        ]
    },
}
"""JSON schema of the skills in a tool call."""


def inline(archive: str) -> SkillFolder:
    """Return a skill sent with the call. Raise `InvalidRequest`, `TooLarge`."""
    try:
        return read_archive(base64.b64decode(archive, validate=True))
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"The archive of a skill is not base64: {error}.", param="skills") from error


def as_text(skill: StoredSkill, path: str, data: bytes) -> str:
    """Return a file of a skill as text for a model. The names of the other files follow SKILL.md."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return (
            f"'{path}' is not text: {len(data)} bytes. It is at /skills/{skill.name}/{path} where code runs."
        )
    other_paths = [at for at, _size, _digest in skill.version.files if at != SKILL_FILE]
    if path != SKILL_FILE or not other_paths:
        return text
    return f"{text.rstrip()}\n\nFiles of this skill: {', '.join(other_paths)}"


class SkillLibrary:
    """The skills of all callers. A version never changes. If a call names no version, the default version is used.

    A name means the caller's own skill, or else a shared skill, which an admin created; an admin refers to the skills
    of other keys by id. A key with the scope ``chat`` can create its own skills; ``reserve`` raises for names that
    keys cannot use.
    """

    def __init__(
        self,
        database: Database,
        quota: StorageQuota,
        reserve: Callable[[str, str | None], None] = lambda _name, _owner: None,
    ) -> None:
        self._database = database
        self._quota = quota
        self._reserved = reserve

    async def list(self, caller: Principal, *, include_all: bool = False) -> Sequence[SkillRow]:
        """Return the skills that the caller can refer to by name. ``include_all``: return all skills to an admin."""
        skill_rows = await self._database.read(
            rows.visible, caller.id, include_all=include_all and caller.admin
        )
        return skill_rows if include_all and caller.admin else as_meant(skill_rows, caller.id)

    async def get(self, ref: str, caller: Principal) -> SkillRow:
        """Return one skill by name or id. Raise `NotFound`."""
        row = await find_meant(f"skill/{ref}", ref, lambda known_as: self._find(known_as, caller))
        if row is None:
            skill_names = [skill.name for skill in await self.list(caller)]
            raise NotFound(
                f"The skill '{ref[:80]}' does not exist or you have no access to "
                f"it.{nearest(ref, skill_names)}",
                code="skill_not_found",
                param="skill_id",
            )
        return row

    async def _find(self, ref: str, caller: Principal) -> SkillRow | None:
        if is_id(ref, "skill_"):
            row = await self._database.read(rows.get, ref)
            return row if row is not None and caller.sees(row.owner) else None
        return await self._database.read(own_or_shared, rows.by_name, ref, caller.id)

    async def version(self, ref: str, caller: Principal, version: str = "default") -> StoredSkill:
        """Return a version of a skill: a number, ``latest`` or ``default``. Raises `NotFound`."""
        row = await self.get(ref, caller)
        number = {"default": row.default_version, "latest": row.latest_version}.get(version)
        if number is None:
            number = whole_number(version, 9)
        version_row = None if number is None else await self._database.read(rows.version, row.id, number)
        if version_row is None:
            raise NotFound(
                f"The skill '{row.name}' has no version '{version[:80]}'; the latest version is "
                f"{row.latest_version}.",
                code="skill_version_not_found",
                param="version",
            )
        return StoredSkill(row, version_row)

    async def versions(
        self, ref: str, caller: Principal, *, after: str | None = None, limit: int = 20, order: Order = "desc"
    ) -> RowPage[SkillVersionRow]:
        """Return the versions of a skill by number, after the version ``after``. Raises `NotFound`."""
        row = await self.get(ref, caller)
        last = None
        if after is not None:
            row_page = await self._database.read(
                rows.versions, row.id, after=None, limit=BOUNDS.versions, order="asc"
            )
            last = next(
                (
                    version_row.version
                    for version_row in row_page.data
                    if after in (version_row.id, str(version_row.version))
                ),
                None,
            )
            if last is None:
                raise NotFound(
                    f"Version '{after[:80]}' does not exist, so the list cannot start after it.",
                    param="after",
                )
        return await self._database.read(rows.versions, row.id, after=last, limit=limit, order=order)

    async def archive(self, skill: StoredSkill) -> bytes:
        """Return the files of a skill as a zip archive. Raises `NotFound` if the skill has been removed in the
        meantime.
        """
        data = await self._database.read(rows.archive, skill.version.id)
        if data is None:
            raise NotFound(
                f"The skill '{skill.name}' has been removed in the meantime.", code="skill_not_found"
            )
        return data

    async def files(self, skill: StoredSkill) -> Mapping[str, bytes]:
        """Return the files of a skill, keyed by path. Raises `NotFound` if the skill has been removed in the
        meantime.
        """
        return await pools.FILES.run(unpack, await self.archive(skill))

    async def folders(
        self, skill_refs: Sequence[str | Mapping[str, Any]], caller: Principal
    ) -> Mapping[str, Mapping[str, bytes]]:
        """Return the files of several skills, keyed by skill name. `SKILLS_SCHEMA` describes ``skill_refs``.

        Raises `NotFound`, and `InvalidRequest` for an invalid archive.
        """
        files_by_skill: dict[str, Mapping[str, bytes]] = {}
        for skill_ref in skill_refs:
            if not isinstance(skill_ref, str) and "archive" in skill_ref:
                skill_folder = await pools.FILES.run(inline, skill_ref["archive"])
                files_by_skill[skill_folder.name] = skill_folder.files
                continue
            ref, version = (
                (skill_ref, "default")
                if isinstance(skill_ref, str)
                else (skill_ref["skill"], skill_ref["version"])
            )
            skill = await self.version(ref, caller, version)
            files_by_skill[skill.name] = await self.files(skill)
        return files_by_skill

    async def read(
        self, ref: str, caller: Principal, path: str | None = None
    ) -> tuple[StoredSkill, str, bytes]:
        """Return a skill, and the path and bytes of one of its files, by default SKILL.md.

        Raises `NotFound` with the nearest existing path.
        """
        skill = await self.version(ref, caller)
        path = path or SKILL_FILE
        file_paths = [at for at, _size, _digest in skill.version.files]
        if path not in file_paths:
            raise NotFound(
                f"The skill '{skill.name}' has no file '{path[:200]}'.{nearest(path, file_paths)} Its files: "
                f"{', '.join(file_paths[:50])}.",
                code="skill_file_not_found",
                param="path",
            )
        return skill, path, (await self.files(skill))[path]

    async def about(self, ref: str, caller: Principal, version: str = "default") -> SkillText:
        """See `SkillTexts`."""
        skill = await self.version(ref, caller, version)
        return SkillText(skill.row.id, skill.name, skill.description)

    async def read_archive(self, archive: str) -> SkillText:
        """See `SkillTexts`."""
        folder = await pools.FILES.run(inline, archive)
        return SkillText("", folder.name, str(folder.front_matter["description"]))

    async def text(self, ref: str, caller: Principal, path: str | None) -> str:
        """See `SkillTexts`."""
        return as_text(*await self.read(ref, caller, path))

    async def create(self, folder: SkillFolder, caller: Principal, *, origin: str = "") -> SkillRow:
        """Store a new skill. A skill that an admin creates is shared. Raises `Conflict` for a name that is in use,
        `TooLarge`.
        """
        caller.require("chat")
        owner = owner_of(caller)
        self._reserved(folder.name, owner)
        version_row, data = await pools.FILES.run(_build, folder, new_id("skill_"), 1)

        def write(connection: Any) -> SkillRow:
            self._quota.require(connection, owner, len(data))
            return rows.create(connection, folder.name, owner, version_row, data, origin, BOUNDS)

        return await self._database.write(write)

    async def add_version(
        self, ref: str, folder: SkillFolder, caller: Principal, *, default: bool = False
    ) -> StoredSkill:
        """Add a version to a skill.

        Raises `NotFound`, `Forbidden`, `InvalidRequest` if the folder's skill has another name, `TooLarge`.
        """
        row = await self._changeable(ref, caller)
        if folder.name != row.name:
            raise InvalidRequest(
                f"The uploaded skill is named '{folder.name}', but the target is '{row.name}': create the "
                "uploaded skill separately.",
                code="invalid_skill",
                param="files",
            )
        version_row, data = await pools.FILES.run(_build, folder, row.id, row.latest_version + 1)

        def write(connection: Any) -> None:
            self._quota.require(connection, row.owner, len(data))
            rows.add_version(connection, row, version_row, data, BOUNDS, default=default)

        await self._database.write(write)
        return await self.version(row.id, caller, str(version_row.version))

    async def save(
        self, folder: SkillFolder, caller: Principal, *, origin: str = ""
    ) -> tuple[SkillRow, bool]:
        """Make the folder the default version of the caller's skill with the same name.

        Return the skill, and whether a version was added.
        """
        row = await self._database.read(rows.by_name, folder.name, owner_of(caller))
        if row is None:
            return await self.create(folder, caller, origin=origin), True
        if await self.has_same_files(folder, row):
            return row, False
        await self.add_version(row.id, folder, caller, default=True)
        return await self.get(row.id, caller), True

    async def has_same_files(self, folder: SkillFolder, row: SkillRow) -> bool:
        """Return whether the default version of a skill has exactly these files."""
        last = await self._database.read(rows.version, row.id, row.default_version)
        return last is not None and [tuple(file) for file in last.files] == folder.sizes

    async def list_shared(self) -> Mapping[str, SkillRow]:
        """Return the shared skills by name."""
        return {row.name: row for row in await self._database.read(rows.visible, None)}

    async def set_default(self, ref: str, version: str, caller: Principal) -> SkillRow:
        """Make a version the default. Raises `NotFound`, `Forbidden`."""
        row = await self._changeable(ref, caller)
        skill = await self.version(row.id, caller, version)
        await self._database.write(rows.set_default, row.id, skill.version)
        return await self.get(row.id, caller)

    async def remove(self, ref: str, caller: Principal) -> SkillRow:
        """Delete a skill with all its versions. Raises `NotFound`, and `Forbidden` for a shared skill."""
        row = await self._changeable(ref, caller)
        await self._database.write(rows.remove, row.id)
        return row

    async def remove_version(self, ref: str, version: str, caller: Principal) -> StoredSkill:
        """Delete a version. Raises `NotFound`, `Forbidden`, and `Conflict` for the default version."""
        row = await self._changeable(ref, caller)
        skill = await self.version(row.id, caller, version)
        if not await self._database.write(rows.remove_version, row, skill.version):
            raise Conflict(
                f"Version {skill.version.version} is the default version of '{row.name}'. Make another "
                "version the default, or remove the skill.",
                code="default_version",
                param="version",
            )
        return skill

    async def _changeable(self, ref: str, caller: Principal) -> SkillRow:
        caller.require("chat")
        row = await self.get(ref, caller)
        if row.owner is None:
            caller.require("admin")
        return row


def _build(folder: SkillFolder, skill_id: str, number: int) -> tuple[SkillVersionRow, bytes]:
    """Return the row and the archive of a version to be stored."""
    data = folder.archive()
    digest = hashlib.sha256(data).hexdigest()
    return rows.new_version(skill_id, number, folder.front_matter, folder.sizes, len(data), digest), data
