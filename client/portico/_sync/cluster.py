# Made from portico/_async by scripts/twin: change it there.
"""Machines: the daemons, the nodes of each launcher, and what runs where."""

from __future__ import annotations

from portico._request import at, named
from portico._sync.group import Group
from portico.schemas.cluster import ClusterNode, ClusterStatus, DrainedNode


class Cluster(Group):
    """For admins. Schedulers place processes; this shows where, and takes machines out of use."""

    def status(self) -> ClusterStatus:
        """Daemons, nodes and processes. A scheduler that does not answer is an ``error`` of its launcher."""
        return self._transport.request("GET", "/api/cluster", ClusterStatus)

    def drain(self, launcher: str, node: str, reason: str, *, dry_run: bool = False) -> DrainedNode:
        """Have nothing more started on a node, by its name or address. Models there are started elsewhere first;
        trainings work on to their end. Raises `NotFound`, `Conflict` with the scheduler's words, or `InvalidRequest`
        where a launcher cannot do that.
        """
        body = {"reason": reason, "dry_run": dry_run}
        return self._transport.request("POST", _at(launcher, node, "drain"), DrainedNode, json=body)

    def resume(self, launcher: str, node: str) -> ClusterNode:
        """Use a node again that was drained. Raises `NotFound`, or `Conflict` with the scheduler's words."""
        return self._transport.request("POST", _at(launcher, node, "resume"), ClusterNode)


def _at(launcher: str, node: str, verb: str) -> str:
    return at("api", "cluster", "nodes", named(launcher, "a launcher"), named(node, "a node"), verb)
