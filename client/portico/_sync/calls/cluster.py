# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.cluster`."""

from __future__ import annotations

from portico._request import at, check_path_name, without_none
from portico._sync.group import Group
from portico.schemas.cluster import ClusterNode, ClusterStatus, DrainedNode


class Cluster(Group):
    """For admins. Schedulers place processes; this resource shows where, and takes machines out of service."""

    def status(self) -> ClusterStatus:
        """Return the daemons on this database, the nodes of each launcher in use, and the processes of models
        and training jobs with their nodes. If a scheduler does not respond, the entry of its launcher has an
        ``error``.
        """
        return self._transport.request("GET", "/api/cluster", ClusterStatus)

    def drain(self, launcher: str, node: str, reason: str, *, dry_run: bool | None = None) -> DrainedNode:
        """Start no more processes on a node, which is given by its name or address.

        Models on the node are started on other nodes first and then stopped; training jobs run to completion.

        The reason for draining a node; the node's scheduler shows it. ``dry_run``: only report the effects.
        """
        return self._transport.request(
            "POST",
            at(
                "api",
                "cluster",
                "nodes",
                check_path_name(launcher, "a launcher"),
                check_path_name(node, "a node"),
                "drain",
            ),
            DrainedNode,
            json=without_none(reason=reason, dry_run=dry_run),
        )

    def resume(self, launcher: str, node: str) -> ClusterNode:
        """Resume using a drained node."""
        return self._transport.request(
            "POST",
            at(
                "api",
                "cluster",
                "nodes",
                check_path_name(launcher, "a launcher"),
                check_path_name(node, "a node"),
                "resume",
            ),
            ClusterNode,
        )
