"""``/api/cluster``: the daemons, the machines of each launcher, and what runs where."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from portico.schemas.cluster import ClusterNode, ClusterStatus, DrainedNode
from portico_server.api.endpoint import Admin, TheServices, new_router
from portico_server.models.cluster import MAX_REASON_CHARS

router = new_router(prefix="/api/cluster", tags=["Cluster"])


class DrainRequest(BaseModel, extra="forbid"):
    """Why a node is drained, for who looks at its scheduler. ``dry_run``: say what would be done."""

    reason: Annotated[str, Field(max_length=MAX_REASON_CHARS)]
    dry_run: bool = False


@router.get("")
async def cluster_status(services: TheServices, _caller: Admin) -> ClusterStatus:
    """The daemons on this database, the nodes of each launcher that is in use, and the processes of models and
    trainings with their nodes. A scheduler that does not answer is an ``error`` of its launcher.
    """
    return await services.cluster.status()


@router.post("/nodes/{launcher}/{node}/drain")
async def drain_node(
    launcher: str, node: str, body: DrainRequest, services: TheServices, _caller: Admin
) -> DrainedNode:
    """Have nothing more started on a node, by its name or address. Models there are started elsewhere first and then
    ended; trainings work on to their end.
    """
    return await services.cluster.drain(launcher, node, body.reason, dry_run=body.dry_run)


@router.post("/nodes/{launcher}/{node}/resume")
async def resume_node(launcher: str, node: str, services: TheServices, _caller: Admin) -> ClusterNode:
    """Use a node again that was drained."""
    return await services.cluster.resume(launcher, node)
