"""``/api/cluster``: the daemons, the machines of each launcher, and where models and training jobs run."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from portico.schemas.cluster import ClusterNode, ClusterStatus, DrainedNode
from portico_server.api.endpoint import Admin, TheServices, new_router
from portico_server.models.cluster import MAX_REASON_CHARS

router = new_router(prefix="/api/cluster", tags=["Cluster"])


class DrainRequest(BaseModel, extra="forbid"):
    """The reason for draining a node; the node's scheduler shows it. ``dry_run``: only report the effects."""

    reason: Annotated[str, Field(max_length=MAX_REASON_CHARS)]
    dry_run: bool = False


@router.get("")
async def cluster_status(services: TheServices, _caller: Admin) -> ClusterStatus:
    """Return the daemons on this database, the nodes of each launcher in use, and the processes of models and training
    jobs with their nodes. If a scheduler does not respond, the entry of its launcher has an ``error``.
    """
    return await services.cluster.status()


@router.post("/nodes/{launcher}/{node}/drain")
async def drain_node(
    launcher: str, node: str, body: DrainRequest, services: TheServices, _caller: Admin
) -> DrainedNode:
    """Start no more processes on a node, which is given by its name or address.

    Models on the node are started on other nodes first and then stopped; training jobs run to completion.
    """
    return await services.cluster.drain(launcher, node, body.reason, dry_run=body.dry_run)


@router.post("/nodes/{launcher}/{node}/resume")
async def resume_node(launcher: str, node: str, services: TheServices, _caller: Admin) -> ClusterNode:
    """Resume using a drained node."""
    return await services.cluster.resume(launcher, node)
