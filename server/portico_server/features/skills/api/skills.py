"""``/v1/skills``: Agent Skills and their versions.

Source: the types ``Skill`` and ``SkillVersion`` of OpenAI's client. Portico's responses add a skill's owner and the
contents of a version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import BaseModel

from portico_server.api.declarations import ARCHIVE
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.exchange import Exchange
from portico_server.api.openai import form, upload
from portico_server.api.shapes import Page, RemovedObject, page_of
from portico_server.core import pools
from portico_server.core.errors import InvalidRequest
from portico_server.core.invalid import missing
from portico_server.core.principal import Principal
from portico_server.db.skills import SkillRow, SkillVersionRow
from portico_server.features.skills import folder
from portico_server.features.skills.folder import SkillFolder

router = new_router(prefix="/v1/skills", tags=["OpenAI: skills"])

Number = Annotated[int, Query(ge=0, le=100)]
Order = Literal["asc", "desc"]


class Skill(BaseModel):
    """A skill. Times are in seconds since 1970.

    ``shared``: for every key, the name refers to this skill. ``owner``: for a skill that is not shared, the key that
    owns it; only admins see this field.
    """

    id: str
    object: Literal["skill"] = "skill"
    name: str
    description: str
    default_version: str
    latest_version: str
    created_at: int
    shared: bool
    owner: str | None = None

    @classmethod
    def of(cls, row: SkillRow, caller: Principal) -> Skill:
        """Convert a row of the skill library."""
        return cls(
            id=row.id,
            name=row.name,
            description=row.description,
            default_version=str(row.default_version),
            latest_version=str(row.latest_version),
            created_at=int(row.created_at),
            shared=row.owner is None,
            owner=row.owner if caller.admin else None,
        )


class SkillFile(BaseModel):
    """A file of a skill version; ``path`` is relative to the skill's folder."""

    path: str
    bytes: int
    sha256: str


class SkillVersion(BaseModel):
    """One version of a skill; ``front_matter`` is the front matter of the version's SKILL.md."""

    id: str
    object: Literal["skill.version"] = "skill.version"
    skill_id: str
    version: str
    name: str
    description: str
    created_at: int
    front_matter: dict[str, Any]
    files: list[SkillFile]

    @classmethod
    def of(cls, row: SkillVersionRow) -> SkillVersion:
        """Convert a row of the skill library."""
        return cls(
            id=row.id,
            skill_id=row.skill_id,
            version=str(row.version),
            name=row.front_matter["name"],
            description=row.description,
            created_at=int(row.created_at),
            front_matter=dict(row.front_matter),
            files=[SkillFile(path=path, bytes=size, sha256=digest) for path, size, digest in row.files],
        )


class SkillChange(BaseModel, extra="forbid"):
    """The new default version."""

    default_version: str


class SkillDeleted(RemovedObject):
    """The deleted skill."""

    object: Literal["skill.deleted"] = "skill.deleted"


class SkillVersionDeleted(BaseModel):
    """The deleted version."""

    id: str
    object: Literal["skill.version.deleted"] = "skill.version.deleted"
    version: str
    deleted: bool = True


_FILES = {
    "oneOf": [upload.FILE, {"type": "array", "maxItems": folder.MAX_FILES, "items": upload.FILE}],
    "description": "The files of the skill's folder, with their paths as file names, or a single zip or tar archive of "
    "the folder",
}
_FORM = upload.declare_form(["files"], {"files": _FILES})
_VERSION_FORM = upload.declare_form(
    ["files"], {"files": _FILES, "default": {"type": "boolean", "default": False}}
)


@router.post("", openapi_extra=_FORM)
async def create_skill(
    request: Request,
    services: TheServices,
    caller: Caller,
    update: Annotated[
        bool, Query(description="If a skill with this name exists: make the upload its new default version")
    ] = False,
) -> Skill:
    """Create a skill from the files of its folder, or from an archive of the folder."""
    caller.require("chat")
    skill_folder, _fields = await _read_form(request, caller)
    if update:
        row, _is_made = await services.skills.save(skill_folder, caller)
    else:
        row = await services.skills.create(skill_folder, caller)
    return Skill.of(row, caller)


@router.get("")
async def list_skills(
    services: TheServices,
    caller: Caller,
    after: str | None = None,
    limit: Number = 20,
    order: Order = "desc",
    all: Annotated[
        bool, Query(description="For admins: include the skills of other keys, listed by id")
    ] = False,
) -> Page[Skill]:
    """Return the caller's own skills and the shared skills, in order of creation."""
    if all:
        caller.require("admin")
    skill_rows = sorted(
        await services.skills.list(caller, include_all=all), key=lambda row: row.id, reverse=order == "desc"
    )
    page = page_of(skill_rows, after, limit, "skill")
    return Page.of([Skill.of(row, caller) for row in page.data], page.has_more)


@router.get("/{skill_id}")
async def retrieve_skill(skill_id: str, services: TheServices, caller: Caller) -> Skill:
    """Return one skill by its id or name."""
    return Skill.of(await services.skills.get(skill_id, caller), caller)


@router.post("/{skill_id}")
async def update_skill(skill_id: str, change: SkillChange, services: TheServices, caller: Caller) -> Skill:
    """Change the default version of a skill."""
    return Skill.of(await services.skills.set_default(skill_id, change.default_version, caller), caller)


@router.delete("/{skill_id}")
async def delete_skill(skill_id: str, services: TheServices, caller: Caller) -> SkillDeleted:
    """Delete a skill and all its versions."""
    return SkillDeleted(id=(await services.skills.remove(skill_id, caller)).id)


@router.get("/{skill_id}/content", response_class=Response, responses=ARCHIVE)
async def read_skill(skill_id: str, services: TheServices, caller: Caller) -> Response:
    """Return the default version of a skill as a zip archive."""
    return await _content(services, skill_id, caller, "default")


@router.post("/{skill_id}/versions", openapi_extra=_VERSION_FORM)
async def create_skill_version(
    skill_id: str, request: Request, services: TheServices, caller: Caller
) -> SkillVersion:
    """Add a version to a skill."""
    caller.require("chat")
    await services.skills.get(skill_id, caller)
    skill_folder, fields = await _read_form(request, caller)
    default = {"true": True, "1": True, "false": False, "0": False}.get(
        str(fields.get("default", "false")).lower()
    )
    if default is None:
        raise InvalidRequest("'default' must be true or false.", param="default")
    stored_skill = await services.skills.add_version(skill_id, skill_folder, caller, default=default)
    return SkillVersion.of(stored_skill.version)


@router.get("/{skill_id}/versions")
async def list_skill_versions(
    skill_id: str,
    services: TheServices,
    caller: Caller,
    after: str | None = None,
    limit: Number = 20,
    order: Order = "desc",
) -> Page[SkillVersion]:
    """Return the versions of a skill in order of their numbers."""
    page = await services.skills.versions(skill_id, caller, after=after, limit=limit, order=order)
    return Page.of([SkillVersion.of(row) for row in page.data], page.has_more)


@router.get("/{skill_id}/versions/{version}")
async def retrieve_skill_version(
    skill_id: str, version: str, services: TheServices, caller: Caller
) -> SkillVersion:
    """Return one version by its number, ``latest`` or ``default``."""
    return SkillVersion.of((await services.skills.version(skill_id, caller, version)).version)


@router.delete("/{skill_id}/versions/{version}")
async def delete_skill_version(
    skill_id: str, version: str, services: TheServices, caller: Caller
) -> SkillVersionDeleted:
    """Delete a version of a skill. The default version cannot be deleted."""
    version_row = (await services.skills.remove_version(skill_id, version, caller)).version
    return SkillVersionDeleted(id=version_row.id, version=str(version_row.version))


@router.get("/{skill_id}/versions/{version}/content", response_class=Response, responses=ARCHIVE)
async def read_skill_version(skill_id: str, version: str, services: TheServices, caller: Caller) -> Response:
    """Return a version of a skill as a zip archive."""
    return await _content(services, skill_id, caller, version)


async def _content(services: TheServices, ref: str, caller: Principal, version: str) -> Response:
    skill = await services.skills.version(ref, caller, version)
    return Response(
        await services.skills.archive(skill),
        media_type="application/zip",
        headers={
            "Content-Disposition": f'attachment; filename="{skill.name}.zip"',
            "Content-Security-Policy": "sandbox",
        },
    )


async def _read_form(request: Request, caller: Principal) -> tuple[SkillFolder, dict[str, Any]]:
    """Return the skill folder and the other fields in a form. Raises `InvalidRequest`, `TooLarge`."""
    exchange: Exchange = request.scope["portico.exchange"]
    multipart_form = await form.read(
        exchange, files=("files",), limit=folder.MAX_ARCHIVE_BYTES, max_files=folder.MAX_FILES, folder=True
    )
    if not multipart_form.files:
        missing("files")
    return await pools.DOCUMENTS.run_for(caller.id, _read, multipart_form.files), multipart_form.fields


def _read(files: Sequence[Any]) -> SkillFolder:
    if len(files) == 1 and files[0].name.rpartition("/")[2] != folder.SKILL_FILE:
        return folder.read_archive(files[0].data)
    by_path: dict[str, bytes] = {}
    for file in files:
        if file.name in by_path:
            raise InvalidRequest(f"The form has '{file.name[:200]}' twice.", param="files")
        by_path[file.name] = file.data
    return folder.read_files(by_path)
