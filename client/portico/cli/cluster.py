"""`portico cluster`: shows the daemons, the nodes of each launcher, and the work on these nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from portico.cli.nouns import print_outcome
from portico.cli.render import moment, print_json, print_rows, safe
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, connected
from portico.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from portico import Client
    from portico.schemas.cluster import ClusterNode, ClusterStatus

app = group("cluster", "portico cluster status")

NodeName = Annotated[
    str, typer.Argument(metavar="NODE", help="A node, by its scheduler name or its address.")
]
LauncherName = Annotated[
    str | None,
    typer.Option(
        "--launcher", help="The launcher of the node; needed if several launchers have a node with this name."
    ),
]


@app.command(epilog="Example: portico cluster status")
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the daemons, the nodes of each launcher, and each job with its node or the reason why it waits."""
    with connected(context) as client:
        cluster_status = client.cluster.status()
    if as_json:
        print_json(cluster_status)
        return
    print_rows(
        ("DAEMON", "ADDRESS", "VERSION", "JOBS", "RUNS", "SEEN"),
        (
            (
                cluster_daemon.name,
                cluster_daemon.url,
                cluster_daemon.version,
                cluster_daemon.jobs,
                cluster_daemon.runs,
                "here" if cluster_daemon.here else moment(cluster_daemon.seen_at),
            )
            for cluster_daemon in cluster_status.daemons
        ),
    )
    typer.echo()
    print_rows(
        ("LAUNCHER", "NODE", "STATE", "CORES", "MEMORY", "GPUS", "REASON"),
        (
            (launcher.name, label_of(node), state_of(node), *figures_of(node), node.reason)
            for launcher in cluster_status.launchers
            for node in launcher.nodes
        ),
    )
    for launcher in cluster_status.launchers:
        if launcher.error:
            typer.echo(f"{launcher.name}: {safe(launcher.error)}", err=True)
        elif launcher.total > len(launcher.nodes):
            typer.echo(f"{launcher.name}: {launcher.total - len(launcher.nodes)} further nodes", err=True)
    if cluster_status.jobs:
        typer.echo()
        print_rows(
            ("WHAT", "STATE", "LAUNCHER", "NODE", "JOB", "ENDS", "WAITS FOR"),
            (
                (
                    cluster_job.name,
                    cluster_job.state,
                    cluster_job.launcher,
                    cluster_job.node,
                    cluster_job.job,
                    moment(cluster_job.ends_at),
                    cluster_job.reason,
                )
                for cluster_job in cluster_status.jobs
            ),
        )


@app.command(epilog='Example: portico cluster drain n1 --reason "New disks" --dry-run')
def drain(
    context: typer.Context,
    node: NodeName,
    reason: Annotated[str, typer.Option(help="The reason, shown in the scheduler.")],
    launcher: LauncherName = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Stop starting work on a node. Its models are first started on other nodes; running work is not interrupted."""
    with connected(context) as client:
        drained_node = client.cluster.drain(
            launcher or _launcher_of(client, node), node, reason, dry_run=dry_run
        )
    if as_json:
        print_json(drained_node)
        return
    place = f"{label_of(drained_node.node)} of {drained_node.launcher}"
    typer.echo(
        safe(
            f"Would drain {place}."
            if drained_node.dry_run
            else f"{place} is {drained_node.node.state}: {reason}"
        )
    )
    if drained_node.moves:
        typer.echo(
            f"{'Would move' if drained_node.dry_run else 'Moving'}: {safe(', '.join(drained_node.moves))}"
        )
    if drained_node.stays:
        typer.echo(f"Runs to completion: {safe(', '.join(drained_node.stays))}")


@app.command(epilog="Example: portico cluster resume n1")
def resume(
    context: typer.Context, node: NodeName, launcher: LauncherName = None, as_json: AsJson = False
) -> None:
    """Use a drained node again."""
    with connected(context) as client:
        cluster_node = client.cluster.resume(launcher or _launcher_of(client, node), node)
    print_outcome(cluster_node, as_json, safe(f"{label_of(cluster_node)} is in use again."))


def label_of(node: ClusterNode) -> str:
    """Return the name to show to people. A long id that only the scheduler uses is shortened, and the address is
    added.
    """
    return (
        f"{node.name[:8]} ({node.address})" if len(node.name) >= MIN_ID_CHARS and node.address else node.name
    )


MIN_ID_CHARS = 56
"""Minimum length of Ray's node ids, in characters."""


def state_of(node: ClusterNode) -> str:
    """Return the node's state, with the scheduler's own term in parentheses if that says more."""
    detail = node.detail.lower()
    return node.state if detail in ("", node.state, "alive", "dead") else f"{node.state} ({detail})"


def figures_of(node: ClusterNode) -> tuple[str, str, str]:
    """Return cores, memory and GPUs, each with the amount in use."""
    memory = (
        ""
        if not node.memory_mb
        else f"{_usage_text(node.memory_used_mb, 1024)}{node.memory_mb / 1024:.0f} GB"
    )
    gpus = (
        f"{_usage_text(node.gpus_used, 1)}{node.gpus} {' '.join(node.gpu_types)}".strip() if node.gpus else ""
    )
    return f"{_usage_text(node.cpus_used, 1)}{node.cpus}", memory, gpus


def _usage_text(amount: float | None, unit: int) -> str:
    return "" if amount is None else f"{round(amount / unit, 1):g} of "


def _launcher_of(client: Client, node: str) -> str:
    """Return the launcher that has a node with this name or address."""
    cluster_status: ClusterStatus = client.cluster.status()
    having = [
        cluster_launcher.name
        for cluster_launcher in cluster_status.launchers
        if any(node in (cluster_node.name, cluster_node.address) for cluster_node in cluster_launcher.nodes)
    ]
    if len(having) == 1:
        return having[0]
    if having:
        raise InvalidRequest(
            f"Several launchers have a node '{safe(node)}': {', '.join(having)}. Choose one with --launcher.",
            param="launcher",
        )
    silent = "; ".join(
        f"{cluster_launcher.name}: {cluster_launcher.error}"
        for cluster_launcher in cluster_status.launchers
        if cluster_launcher.error
    )
    raise NotFound(
        f"No launcher has a node '{safe(node)}': list the nodes with 'portico cluster "
        f"status'.{f' {silent}' if silent else ''}",
        code="node_not_found",
        param="node",
    )
