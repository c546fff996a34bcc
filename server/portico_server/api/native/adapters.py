"""``/api/adapters``: adapters, which are small sets of weights on top of a model, each with its own model name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel

from portico.schemas.adapters import Adapter
from portico_server.api.endpoint import Admin, ModelsReader, TheServices, new_router
from portico_server.api.shapes import Listed, RemovedName, StartedRun, shaped
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.models.adapter_export import ExportRequest
from portico_server.models.adapters.served import AdapterInfo

router = new_router(prefix="/api/adapters", tags=["Models"])


class AdapterRequest(BaseModel, extra="forbid"):
    """An adapter at ``path`` on the daemon's machine, and the ``name`` under which it is served."""

    base: str
    path: str
    name: str
    scale: float = 1.0


class AdapterChange(BaseModel, extra="forbid"):
    """A new scale: 0 is the base model alone, 1 the scale for which the adapter was trained."""

    scale: float


class AdapterExportRequest(BaseModel, extra="forbid"):
    """Where to write an adapter on the daemon's machine; ``path`` must not exist yet.

    ``merged``: merge the adapter into its base model. ``type`` is the number format of a GGUF file.
    """

    path: str
    merged: bool = False
    format: Literal["safetensors", "gguf"] = "safetensors"
    type: str = "f16"


@router.get("")
async def list_adapters(
    services: TheServices, caller: ModelsReader, base: Annotated[str | None, Query()] = None
) -> Listed[Adapter]:
    """List all adapters, or the adapters of one base model, sorted by name."""
    adapter_infos = services.models.adapters.list(base)
    return Listed(data=[_adapter(info) for info in adapter_infos if caller.sees(info.owner)])


@router.post("")
async def create_adapter(body: AdapterRequest, services: TheServices, _caller: Admin) -> Adapter:
    """Copy an adapter, test it with its base model, and serve it. Calls in progress are completed."""
    path = Path(body.path)
    if not path.is_absolute():
        raise InvalidRequest(
            f"'path' must be an absolute path on the daemon's machine, not '{body.path}'.", param="path"
        )
    return _adapter(await services.models.adapters.add(body.base, path, body.name, scale=body.scale))


@router.post("/{name:path}/export")
async def export_adapter(
    name: str, body: AdapterExportRequest, services: TheServices, caller: Admin
) -> StartedRun:
    """Write an adapter, or its base model merged with it, to a path on the daemon's machine, in a durable run."""
    export = ExportRequest(name, body.path, body.merged, body.format, body.type)
    return StartedRun(run=await services.models.exports.begin(export, caller))


@router.get("/{name:path}")
async def retrieve_adapter(name: str, services: TheServices, caller: ModelsReader) -> Adapter:
    """Return an adapter by name or alias."""
    info = services.models.adapters.get(name)
    if not caller.sees(info.owner):
        raise NotFound(f"The adapter '{name}' does not exist.", code="adapter_not_found", param="name")
    return _adapter(info)


@router.patch("/{name:path}")
async def change_adapter(name: str, body: AdapterChange, services: TheServices, _caller: Admin) -> Adapter:
    """Change the scale of an adapter. The new scale applies from the next call on."""
    return _adapter(await services.models.adapters.scale(name, body.scale))


@router.delete("/{name:path}")
async def delete_adapter(name: str, services: TheServices, _caller: Admin) -> RemovedName:
    """Remove an adapter and the daemon's copy of it. Calls in progress are completed."""
    await services.models.adapters.remove(name)
    return RemovedName(name=name)


def _adapter(info: AdapterInfo) -> Adapter:
    return shaped(Adapter, info)
