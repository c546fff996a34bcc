"""``/v1/containers``: sandbox folders that the code of several responses shares, and their files.

Source: the types ``Container…`` and ``File…`` of ``containers`` in OpenAI's client.
"""

from __future__ import annotations

from typing import Annotated, Literal

import orjson
from fastapi import Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from portico_server.api import errors
from portico_server.api.declarations import FILE_BYTES
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.exchange import Exchange
from portico_server.api.kept_response import artifact_response
from portico_server.api.openai import form, upload
from portico_server.api.services import ApiServices
from portico_server.api.shapes import Moment, Page, RemovedObject, page_of, shaped
from portico_server.core.errors import Forbidden, InvalidRequest
from portico_server.core.invalid import missing
from portico_server.core.principal import Principal
from portico_server.db.containers import ContainerRow, StoredContainerFile
from portico_server.features.files.uploaded_files import UploadedFiles
from portico_server.features.sandbox.container_files import MAX_FILE_BYTES
from portico_server.features.sandbox.containers import DEFAULT_MINUTES, MAX_MINUTES, NewContainer
from portico_server.features.skills.library import MAX_SKILLS

router = new_router(prefix="/v1/containers", tags=["OpenAI: containers"])

WORKING_FOLDER = "/work/"
"""Folder in which code in a container finds its files."""

MAX_FILE_IDS = 20

Number = Annotated[int, Query(ge=1, le=100)]
Order = Literal["asc", "desc"]
MemoryLimit = Literal["1g", "4g", "16g", "64g"]


class ContainerExpiry(BaseModel):
    """How long a container is kept after it was last used."""

    anchor: Literal["last_active_at"]
    minutes: int = Field(ge=1, le=MAX_MINUTES)


class NetworkPolicy(BaseModel):
    """The network access of code in a container: none."""

    type: Literal["disabled"] = "disabled"


class SkillReference(BaseModel):
    """A skill stored on the daemon. ``version`` is a number or ``latest``; without it, the skill's default version is
    used.
    """

    type: Literal["skill_reference"]
    skill_id: str = Field(min_length=1, max_length=100)
    version: str = Field(default="default", min_length=1, max_length=20)


class SkillSource(BaseModel):
    """A zip archive with a skill."""

    type: Literal["base64"]
    media_type: Literal["application/zip"]
    data: str


class InlineSkill(BaseModel):
    """A skill included in the request."""

    type: Literal["inline"]
    name: str
    description: str
    source: SkillSource


class ContainerRequest(BaseModel):
    """A container to create."""

    name: str = Field(min_length=1, max_length=200)
    expires_after: ContainerExpiry | None = None
    file_ids: list[Annotated[str, Field(min_length=1, max_length=200)]] = Field(
        default_factory=list, max_length=MAX_FILE_IDS
    )
    memory_limit: MemoryLimit | None = None
    network_policy: NetworkPolicy | None = None
    skills: list[Annotated[SkillReference | InlineSkill, Field(discriminator="type")]] = Field(
        default_factory=list, max_length=MAX_SKILLS
    )


class Container(BaseModel):
    """A container. Times are in seconds since 1970."""

    id: str
    object: Literal["container"] = "container"
    name: str
    status: Literal["active"] = "active"
    created_at: Moment
    last_active_at: Moment
    expires_after: ContainerExpiry
    memory_limit: MemoryLimit | None
    network_policy: NetworkPolicy = NetworkPolicy()

    @classmethod
    def of(cls, row: ContainerRow) -> Container:
        """Convert a container row."""
        expiry = ContainerExpiry(anchor="last_active_at", minutes=row.minutes)
        return shaped(cls, row, expires_after=expiry, network_policy=NetworkPolicy())


class ContainerDeleted(RemovedObject):
    """The deleted container."""

    object: Literal["container.deleted"] = "container.deleted"


class ContainerFileObject(BaseModel):
    """A file in a container; ``path`` is the file's location as code in the container sees it."""

    id: str
    object: Literal["container.file"] = "container.file"
    container_id: str
    path: str
    bytes: int
    source: Literal["user", "assistant"]
    created_at: Moment

    @classmethod
    def of(cls, file: StoredContainerFile) -> ContainerFileObject:
        """Convert a stored file."""
        return shaped(cls, file, path=f"{WORKING_FOLDER}{file.path}")


class ContainerFileDeleted(RemovedObject):
    """The deleted file."""

    object: Literal["container.file.deleted"] = "container.file.deleted"


_BY_ID = {
    "type": "object",
    "required": ["file_id"],
    "properties": {"file_id": {"type": "string", "minLength": 1}},
}
_FORM = upload.declare_form(["file"], {"file": upload.FILE}, json=_BY_ID)


@router.post("")
async def create_container(body: ContainerRequest, services: TheServices, caller: Caller) -> Container:
    """Create a container with copies of uploaded files."""
    _require_code(caller)
    container = NewContainer(
        body.name,
        DEFAULT_MINUTES if body.expires_after is None else body.expires_after.minutes,
        body.memory_limit,
        tuple(map(_skill, body.skills)),
    )
    files = (
        await _read_upload(services, file_id, caller, f"file_ids[{number}]")
        for number, file_id in enumerate(body.file_ids)
    )
    return Container.of(await services.containers.create(container, caller, files))


@router.get("")
async def list_containers(
    services: TheServices,
    caller: Caller,
    after: str | None = None,
    limit: Number = 20,
    order: Order = "desc",
    name: Annotated[str | None, Query(max_length=200)] = None,
) -> Page[Container]:
    """Return the caller's containers in order of creation."""
    page = await services.containers.list(caller, name=name, after=after, limit=limit, order=order)
    return Page.of([Container.of(row) for row in page.data], page.has_more)


@router.get("/{container_id}")
async def retrieve_container(container_id: str, services: TheServices, caller: Caller) -> Container:
    """Return one container."""
    return Container.of(await services.containers.get(container_id, caller))


@router.delete("/{container_id}")
async def delete_container(container_id: str, services: TheServices, caller: Caller) -> ContainerDeleted:
    """Delete a container with its files. Files made by a response are kept at ``/v1/files``."""
    return ContainerDeleted(id=(await services.containers.remove(container_id, caller)).id)


@router.post("/{container_id}/files", openapi_extra=_FORM)
async def create_container_file(
    container_id: str, request: Request, services: TheServices, caller: Caller
) -> ContainerFileObject:
    """Add a file to a container: a file from a form, or a copy of an uploaded file named in a JSON body."""
    await services.containers.get(container_id, caller)
    if request.headers.get("content-type", "").startswith("application/json"):
        path, data = await _read_upload(services, _file_id(await request.body()), caller, "file_id")
    else:
        exchange: Exchange = request.scope["portico.exchange"]
        attachment = form.one_file(await form.read(exchange, files=("file",), limit=MAX_FILE_BYTES), "file")
        path, data = attachment.name, attachment.data
    return ContainerFileObject.of(await services.containers.add(container_id, path, data, caller))


@router.get("/{container_id}/files")
async def list_container_files(
    container_id: str,
    services: TheServices,
    caller: Caller,
    after: str | None = None,
    limit: Number = 20,
    order: Order = "desc",
) -> Page[ContainerFileObject]:
    """Return the files of a container in order of creation."""
    container_files = list(await services.containers.files(container_id, caller))
    if order == "desc":
        container_files.reverse()
    page = page_of(container_files, after, limit, "file")
    return Page.of([ContainerFileObject.of(file) for file in page.data], page.has_more)


@router.get("/{container_id}/files/{file_id}")
async def retrieve_container_file(
    container_id: str, file_id: str, services: TheServices, caller: Caller
) -> ContainerFileObject:
    """Return one file of a container."""
    return ContainerFileObject.of(await services.containers.file(container_id, file_id, caller))


@router.get("/{container_id}/files/{file_id}/content", response_class=FileResponse, responses=FILE_BYTES)
async def read_container_file(
    container_id: str, file_id: str, services: TheServices, caller: Caller
) -> FileResponse:
    """Return the bytes of a file in a container."""
    row = await services.containers.content(container_id, file_id, caller)
    return artifact_response(services.artifacts, row)


@router.delete("/{container_id}/files/{file_id}")
async def delete_container_file(
    container_id: str, file_id: str, services: TheServices, caller: Caller
) -> ContainerFileDeleted:
    """Delete a file from its container."""
    return ContainerFileDeleted(id=(await services.containers.remove_file(container_id, file_id, caller)).id)


def _require_code(caller: Principal) -> None:
    """Raise `Forbidden` unless the caller may run code in a container."""
    if not any(caller.allows(f"tools:{name}:call") for name in ("code_interpreter", "shell")):
        raise Forbidden(
            "This key cannot run code: it lacks the scopes 'tools:code_interpreter:call' and "
            "'tools:shell:call'. Ask the operator for a key with one of them."
        )


async def _read_upload(
    services: ApiServices, file_id: str, caller: Principal, param: str
) -> tuple[str, bytes]:
    name, data = await UploadedFiles(services.files, services.artifacts).read(
        file_id, caller, limit=MAX_FILE_BYTES, param=param
    )
    return name.rpartition("/")[2], data


def _file_id(sent_body: bytes) -> str:
    try:
        body = orjson.loads(sent_body)
    except orjson.JSONDecodeError as error:
        raise errors.invalid_json(error) from error
    file_id = body.get("file_id") if isinstance(body, dict) else None
    if file_id is None:
        missing("file_id")
    if not isinstance(file_id, str) or not file_id:
        raise InvalidRequest("'file_id' must be the id of a file.", param="file_id")
    return file_id


def _skill(skill: SkillReference | InlineSkill) -> dict[str, str]:
    if isinstance(skill, SkillReference):
        return {"skill": skill.skill_id, "version": skill.version}
    return {"archive": skill.source.data}
