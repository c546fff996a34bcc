# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.cluster`."""

from __future__ import annotations

from portico._request import at, given, named
from portico._sync.group import Group
from portico.schemas.cluster import ClusterNode, ClusterStatus, DrainedNode


class Cluster(Group):
    """For admins. Schedulers place processes; this shows where, and takes machines out of use."""

    def status(self) -> ClusterStatus:
        """The daemons on this database, the nodes of each launcher that is in use, and the processes of models
        and trainings with their nodes. A scheduler that does not answer is an ``error`` of its launcher.
        """
        return self._transport.request("GET", "/api/cluster", ClusterStatus)

    def drain(self, launcher: str, node: str, reason: str, *, dry_run: bool | None = None) -> DrainedNode:
        """Have nothing more started on a node, by its name or address. Models there are started elsewhere first
        and then ended; trainings work on to their end.

        Why a node is drained, for who looks at its scheduler. ``dry_run``: say what would be done.
        """
        return self._transport.request(
            "POST",
            at("api", "cluster", "nodes", named(launcher, "a launcher"), named(node, "a node"), "drain"),
            DrainedNode,
            json=given(reason=reason, dry_run=dry_run),
        )

    def resume(self, launcher: str, node: str) -> ClusterNode:
        """Use a node again that was drained."""
        return self._transport.request(
            "POST",
            at("api", "cluster", "nodes", named(launcher, "a launcher"), named(node, "a node"), "resume"),
            ClusterNode,
        )
