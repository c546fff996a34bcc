"""``POST /api/apply``: make the daemon match a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from portico.schemas.configuration import Applied
from portico_server import config
from portico_server.api.endpoint import Admin, TheServices, new_router
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.reconcile import FILE_ONLY, PRUNABLE

router = new_router(tags=["Daemon"])


class ApplyRequest(BaseModel, extra="forbid"):
    """A configuration to apply.

    ``configuration``: the contents of a configuration file (docs/configuration.md) with its variables replaced;
    without it, the daemon reads its own file again. ``folder``: the folder on the daemon's machine to which relative
    paths refer. ``prune``: kinds (``apps``, ``tools`` …) of objects to remove if the configuration does not name them.
    """

    configuration: dict[str, Any] | None = None
    folder: str = ""
    prune: list[str] = Field(default_factory=list)
    dry_run: bool = False


@router.post("/api/apply")
async def apply_configuration(body: ApplyRequest, services: TheServices, caller: Admin) -> Applied:
    """Check a whole configuration, then create missing objects and change those that differ. Applying it again changes
    nothing.
    """
    for kind in body.prune:
        if kind not in PRUNABLE:
            raise InvalidRequest(
                f"Objects of the kind '{kind}' cannot be pruned.{nearest(kind, PRUNABLE)} Use one of "
                f"{', '.join(PRUNABLE)}.",
                param="prune",
            )
    if body.configuration is None:
        if body.prune or body.folder:
            raise InvalidRequest(
                "'prune' and 'folder' need a 'configuration'. Without it, the daemon reads its own file.",
                param="configuration",
            )
        return await services.configuration_file.apply(caller, dry_run=body.dry_run)
    folder = Path(body.folder or "/")
    if not folder.is_absolute():
        raise InvalidRequest("'folder' must be an absolute path on the daemon's machine.", param="folder")
    configuration = config.parse(body.configuration, folder, None)
    changes = await services.reconciler.apply(configuration, caller, prune=body.prune, dry_run=body.dry_run)
    if not body.dry_run:
        services.problems.forget_applied(configuration)
    return Applied(
        changes=tuple(changes),
        dry_run=body.dry_run,
        ignored=tuple(key for key in FILE_ONLY if body.configuration.get(key)),
    )
