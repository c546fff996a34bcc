"""`portico runs trace`, `resume` and `fork`: shows the steps of a flow's run, continues the run, or repeats it with
changes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from rich.tree import Tree

from portico.cli.nouns import print_outcome
from portico.cli.render import console, dollars, one_line, print_json, print_rows, safe, shorten
from portico.cli.running import given_input
from portico.cli.session import AsJson, connected
from portico.errors import InvalidRequest
from portico.schemas.flows import TraceStep
from portico.schemas.runs import Run

Identity = Annotated[str, typer.Argument(metavar="ID", help="The id of the run.")]
Start = Annotated[
    str,
    typer.Option(
        "--from", metavar="STEP", help="The step from which to repeat: this step and all later ones."
    ),
]

_ITEM = re.compile(r"^(.*)\[(\d+)\]$")


def trace(
    context: typer.Context,
    run_id: Identity,
    full: Annotated[bool, typer.Option("--full", help="Include inputs and outputs in full.")] = False,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print a Mermaid gantt chart instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the steps of a flow's run as a tree, with times, tokens, cost, cache hits and errors."""
    with connected(context) as client:
        if mermaid:
            chart = client.runs.chart(run_id)
            print_outcome({"mermaid": chart}, as_json, safe(chart).rstrip())
            return
        steps = client.runs.trace(run_id, full=full)
    if as_json:
        print_json({"run": run_id, "steps": steps})
    elif not steps:
        typer.echo("No step of a flow has ended in this run, or the run is too old.")
    elif sys.stdout.isatty():
        console().print(tree_of(run_id, steps, full=full))
    else:
        print_rows(
            (
                "STEP",
                "KIND",
                "STATUS",
                "TIME",
                "TOKENS",
                "COST",
                "ERROR",
                *(("INPUT", "OUTPUT") if full else ()),
            ),
            (_cells(step, full) for step in sorted(steps, key=lambda step: step.started_at)),
        )


def _cells(step: TraceStep, full: bool) -> tuple[Any, ...]:
    content = (json.dumps(step.input, ensure_ascii=False), json.dumps(step.output, ensure_ascii=False))
    error = str((step.error or {}).get("message", ""))
    costs = (_time(step), _tokens(step), "" if step.cost is None else dollars(step.cost))
    return (
        step.path,
        step.kind,
        "cached" if step.hit else step.status,
        *costs,
        error,
        *(content if full else ()),
    )


def tree_of(run_id: str, steps: Sequence[TraceStep], *, full: bool = False) -> Tree:
    """Return a tree with each step below its parent, sorted by start time."""
    tree = Tree(Text(run_id, "dim"), guide_style="dim")
    at: dict[str, Tree] = {"": tree}

    def node(path: str) -> Tree:
        """Return the branch of a path. If the path has no step, such as an item of a warp, create the branch."""
        if path not in at:
            outer, name = above(path)
            at[path] = node(outer).add(Text(one_line(name), "dim"))
        return at[path]

    for step in sorted(steps, key=lambda step: (step.started_at, len(step.path))):
        outer, name = above(step.path)
        branch = at.get(step.path)
        label = step_label(name, step)
        if branch is not None:  # the branch exists already, because a step below it ended first
            branch.label = label
        else:
            branch = at[step.path] = node(outer).add(label)
        if full:
            for sign, value in (("→", step.input), ("←", step.output)):
                if value is not None:
                    branch.add(Text(f"{sign} {shorten(json.dumps(value, ensure_ascii=False), 400)}", "dim"))
    return tree


def above(path: str) -> tuple[str, str]:
    """Return the path of a step's parent, and the step's name in the parent. The parent of a list's item is the
    list.
    """
    outer, _dot, name = path.rpartition(".")
    item = _ITEM.match(name)
    if item is None:
        return outer, name
    return (f"{outer}.{item[1]}" if outer else item[1]), f"[{item[2]}]"


def step_label(name: str, step: TraceStep) -> Text:
    """Return a step as a line: name, kind, time, tokens, cost and error."""
    colour = {"failed": "red", "skipped": "dim"}.get(step.status, "")
    parts = [(one_line(name), f"bold {colour}".strip()), (f"  {step.kind}", "dim")]
    if step.status == "skipped":
        parts.append(("  skipped", "dim"))
    else:
        parts.append((f"  {_time(step)}", "cyan"))
    if step.hit:
        parts.append(("  from the cache", "green"))
    if tokens := _tokens(step):
        parts.append((f"  {tokens} tokens", "magenta"))
    if step.cost is not None:
        parts.append((f"  {dollars(step.cost)}", "magenta"))
    if step.error:
        parts.append((f"  {one_line(step.error.get('message', ''))}", "red"))
    return Text.assemble(*parts)


def _time(step: TraceStep) -> str:
    if step.milliseconds >= 1000:
        return f"{step.milliseconds / 1000:.2f} s"
    return f"{step.milliseconds:.1f} ms"


def _tokens(step: TraceStep) -> str:
    if not (step.prompt_tokens or step.completion_tokens):
        return ""
    return f"{step.prompt_tokens}+{step.completion_tokens}"


def resume(context: typer.Context, run_id: Identity, start: Start = "", as_json: AsJson = False) -> None:
    """Resume a durable run that has ended: after its last finished step, or from a given step."""
    with connected(context) as client:
        run = client.runs.resume(run_id, start=start)
    _say(run, "continues", as_json=as_json)


def fork(
    context: typer.Context,
    run_id: Identity,
    start: Start = "",
    text: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="INPUT",
            help="Another input; valid JSON is parsed as JSON, @FILE reads it from a file.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start a new run from a durable run: with a different input, or reusing all steps before a given step."""
    if text is not None and start:
        raise InvalidRequest("A new input repeats every step: use either --from or --input.")
    options: dict[str, Any] = {}
    if text is not None:
        options["input"] = (
            given_input(None, Path(text[1:]), None) if text[:1] == "@" else given_input(text, None, None)
        )
    with connected(context) as client:
        run = client.runs.fork(run_id, start=start, **options)
    _say(run, "began", as_json=as_json)


def _say(run: Run, outcome: str, *, as_json: bool) -> None:
    print_outcome(run, as_json, f"{run.id} {outcome}. To follow it: portico runs tail {run.id}")
