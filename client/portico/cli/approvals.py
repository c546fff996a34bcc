"""`portico approvals`: list and answer the questions of runs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.cli.nouns import fields_of, print_listing, print_outcome
from portico.cli.pairs import json_or_text
from portico.cli.render import console, moment, print_fields, print_json, safe
from portico.cli.root import group
from portico.cli.session import AsJson, connected
from portico.errors import Conflict, InvalidRequest
from portico.schemas.questions import QUESTIONS, Question

if TYPE_CHECKING:
    from portico.client import Client

app = group("approvals", "portico approvals list")

ForPeople = ("approval", "input")
"""Kinds of questions that a person answers. Programs answer the other kind, function calls."""

Identity = Annotated[str, typer.Argument(metavar="ID", help="The id of the question.")]
Note = Annotated[str, typer.Option(help="A note for the run and its model.")]


@app.command("list", epilog="Example: portico approvals list --all")
def show_all(
    context: typer.Context,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Include client functions and closed questions."),
    ] = False,
    run: Annotated[str | None, typer.Option(help="Only questions of this run.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the open questions."""
    with connected(context) as client:
        found_questions = client.questions.list(status=None if everything else "pending", run=run, limit=1000)
    questions = [item for item in found_questions if everything or item.kind in ForPeople]
    print_listing(questions, as_json, QUESTIONS.columns, "No open questions.")


@app.command(epilog="Example: portico approvals show ask_0192f6")
def show(context: typer.Context, question_id: Identity, as_json: AsJson = False) -> None:
    """Show a question in full."""
    with connected(context) as client:
        question = client.questions.get(question_id)
    if as_json:
        print_json(question)
        return
    print_fields(
        [
            *fields_of(question, "id", "run", "kind", "name", "message"),
            ("status", question.outcome),
            ("asked", moment(question.created_at)),
            ("waits until", moment(question.expires_at) if question.status == "pending" else ""),
            ("answered by", question.answered_by),
            ("note", question.note),
        ]
    )
    for title, value in (("Arguments", question.arguments), ("Answer", question.answer_schema)):
        if value:
            typer.echo(f"{title}:\n{safe(json.dumps(value, ensure_ascii=False, indent=2))}")


@app.command(epilog="Example: portico approvals approve ask_0192f6 --note 'this time'")
def approve(
    context: typer.Context,
    question_id: Identity,
    note: Note = "",
    value: Annotated[
        str | None, typer.Option(help="The requested value; valid JSON is parsed as JSON.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Approve: the run continues."""
    with connected(context) as client:
        question = client.questions.answer(question_id, True, value=_value(value), note=note)
    print_outcome(question, as_json, f"Approved '{question.name}'.")


@app.command(epilog="Example: portico approvals refuse ask_0192f6 --note 'not on a Friday'")
def refuse(context: typer.Context, question_id: Identity, note: Note = "", as_json: AsJson = False) -> None:
    """Refuse the request: the run continues without the action."""
    with connected(context) as client:
        question = client.questions.answer(question_id, False, note=note)
    print_outcome(question, as_json, f"Refused '{question.name}'.")


@app.command(epilog="Example: portico approvals watch")
def watch(context: typer.Context, as_json: AsJson = False) -> None:
    """Answer questions as they arrive, until Ctrl-C. Without a terminal, list the open questions and exit."""
    if as_json or not sys.stdin.isatty():
        show_all(context, everything=False, run=None, as_json=as_json)
        return
    console().print("Waiting for questions; press Ctrl-C to stop.", style="dim")
    with connected(context) as client:
        for item in client.questions.watch():
            if item.status == "pending" and item.kind in ForPeople:
                decide(client, item)


def decide(client: Client, question: Question) -> None:
    """Ask the person at the terminal, and send the answer. If the question has already been answered, report that."""
    typer.secho(f"\n{safe(question.message or question.name)}", bold=True)
    if question.arguments:
        typer.echo(safe(json.dumps(question.arguments, ensure_ascii=False, indent=2)))
    value: Any = None
    if question.kind == "input":
        reply = typer.prompt(safe(question.name), default="", show_default=False)
        is_accepted, value = bool(reply), _value(reply) if reply else None
    else:
        is_accepted = typer.confirm("Approve?", default=False)
    try:
        client.questions.answer(question.id, is_accepted, value=value)
    except (Conflict, InvalidRequest) as error:
        typer.secho(safe(error.message), fg="yellow", err=True)


def _value(text: str | None) -> Any:
    return None if text is None else json_or_text(text)
