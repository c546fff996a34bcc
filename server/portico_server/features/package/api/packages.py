"""``/api/apps/{name}/package``: an app and its dependencies as an archive."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from portico.schemas.packages import PackagedContents
from portico_server.api.declarations import ARCHIVE
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.shapes import shaped
from portico_server.core.dataclass import dataclass
from portico_server.features.package.request import Inclusion, PackageRequest
from portico_server.features.package.targets import TARGETS, Target, TargetOptions

router = new_router(prefix="/api/apps", tags=["Apps"])


@dataclass(frozen=True, slots=True)
class TargetSettings(TargetOptions):
    """Where the package runs.

    ``image`` is the name of the image to build, ``base`` its Python base image, ``host`` the host name of an Ingress.
    Several ``replicas`` share a PostgreSQL; ``partition``, ``account``, ``time`` and ``gres`` are options of sbatch.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    replicas: Annotated[int, Field(ge=1, le=100)] = 1
    max_replicas: Annotated[int, Field(ge=0, le=100)] = 0
    gpus: Annotated[int, Field(ge=0, le=64)] = 0
    cpus: Annotated[int, Field(ge=1, le=1024)] = 2
    memory_mb: Annotated[int, Field(ge=256, le=16_777_216)] = 4096
    storage_gb: Annotated[int, Field(ge=1, le=1_000_000)] = 20


class PackageOrder(BaseModel, extra="forbid"):
    """A package to create. ``version`` is the app's version, by default the current one; ``targets`` are the places
    where the package can run. ``stores`` selects whether stores are packed as archives or as their sources, and
    ``models`` whether models are packed as their sources or as files on the daemon's machine. ``include`` lists
    additional names.
    """

    version: int | None = Field(None, ge=1)
    targets: list[Target] = Field(default_factory=list, max_length=len(TARGETS))
    stores: Inclusion = "include"
    models: Inclusion = "reference"
    include: list[Annotated[str, Field(max_length=200)]] = Field(default_factory=list, max_length=200)
    options: TargetSettings = TargetSettings()

    def request(self) -> PackageRequest:
        """Return the order as a `PackageRequest`."""
        return PackageRequest(
            self.version,
            tuple(dict.fromkeys(self.targets)),
            self.stores,
            self.models,
            tuple(self.include),
            self.options,
        )


@router.post("/{name}/package/plan")
async def plan_package(
    name: str, body: PackageOrder, services: TheServices, caller: Caller
) -> PackagedContents:
    """List what the package of an app would contain, without creating it."""
    packages = await services.features.load("package")
    package = await packages.prepare(name, body.request(), caller)
    return shaped(PackagedContents, package.plan())


@router.post("/{name}/package", response_class=StreamingResponse, responses=ARCHIVE)
async def package_app(
    name: str, body: PackageOrder, services: TheServices, caller: Caller
) -> StreamingResponse:
    """Return a zip archive with an app, its pinned dependencies, and the files to run it elsewhere. It contains no
    secrets.

    Requires the right to deploy the app: for a shared app, the scope ``admin``.
    """
    packages = await services.features.load("package")
    package = await packages.prepare(name, body.request(), caller)
    return StreamingResponse(
        package.pieces(),
        media_type="application/zip",
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(package.filename)}"},
    )
