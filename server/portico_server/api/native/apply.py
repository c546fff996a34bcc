"""``POST /api/apply``: making the daemon what a configuration says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from portico_server import config
from portico_server.api.depends import TheParts
from portico_server.api.native.rights import Admin
from portico_server.api.router import router as new_router
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.reconcile import KINDS

router = new_router(tags=["Daemon"])


class Wish(BaseModel):
    """``configuration``: as in a file (docs/configuration.md), its variables replaced. ``folder``: what paths in
    it are relative to, on the daemon's machine. ``prune``: kinds (``apps``, ``tools`` …) of which everything is removed
    that the configuration does not name.
    """

    configuration: dict[str, Any]
    folder: str = ""
    prune: list[str] = Field(default_factory=list)
    dry_run: bool = False


class Change(BaseModel):
    """What becomes, or would become, of one thing. ``detail`` names the fields that differ."""

    kind: str
    name: str
    action: Literal["create", "change", "remove", "unchanged"]
    detail: list[str]


class Applied(BaseModel):
    """What was done, in order; with ``dry_run`` what would be. ``ignored``: keys that only a start takes."""

    changes: list[Change]
    dry_run: bool
    ignored: list[str]


@router.post("/api/apply")
async def apply_configuration(wish: Wish, parts: TheParts, caller: Admin) -> Applied:
    """Check a whole configuration, then create and change what differs. The same again changes nothing."""
    for kind in wish.prune:
        if kind not in KINDS:
            raise InvalidRequest(
                f"Nothing of the kind '{kind}' can be removed.{nearest(kind, KINDS)} It is one of {', '.join(KINDS)}.",
                param="prune",
            )
    folder = Path(wish.folder or "/")
    if not folder.is_absolute():
        raise InvalidRequest("'folder' must be an absolute path on the daemon's machine.", param="folder")
    wanted = config.parse(wish.configuration, folder, None)
    done = await parts.reconciler.apply(wanted, caller, prune=wish.prune, dry_run=wish.dry_run)
    if not wish.dry_run:
        parts.problems.applied(wanted)
    return Applied(
        changes=[Change(kind=x.kind, name=x.name, action=x.action, detail=list(x.detail)) for x in done],
        dry_run=wish.dry_run,
        ignored=[key for key in ("keys", "settings") if wish.configuration.get(key)],
    )
