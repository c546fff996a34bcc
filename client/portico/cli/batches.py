"""`portico batches`: many requests in a file, processed in the background."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.cli.nouns import fields_of, print_listing, print_outcome
from portico.cli.render import moment, one_line, print_fields, print_json, print_rows
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, connected
from portico.schemas.batches import BATCHES, Batch, BatchProblem, BatchResult, CheckedBatch

if TYPE_CHECKING:
    from portico.client import Client

app = group("batches", "portico batches create requests.jsonl --wait")

Identity = Annotated[str, typer.Argument(metavar="ID", help="The id of the batch.")]

_MAX_SHOWN_ITEMS = 20
"""Maximum number of problems printed for a file."""


@app.command(epilog="Example: portico batches create requests.jsonl --endpoint /v1/embeddings --wait")
def create(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="Requests, one per line: custom_id, method, url and body, as JSON.")
    ],
    endpoint: Annotated[
        str, typer.Option(help="The endpoint of the requests: the url of each line.")
    ] = "/v1/chat/completions",
    keep_days: Annotated[
        int | None, typer.Option(min=1, max=30, help="Days to keep the results (default: forever).")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until the batch has ended.")] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Start a batch. With --dry-run, check each line without calling a model. Ctrl-C leaves the batch running."""
    with connected(context) as client:
        if dry_run:
            _print_checked(client.batches.check(file, endpoint), as_json)
            return
        keep = None if keep_days is None else keep_days * 86_400
        batch = client.batches.create(file, endpoint, keep=keep)
        if wait:
            batch = _follow(client, batch, quiet=as_json)
    if as_json:
        print_json(batch)
    elif not wait:
        typer.echo(f"{batch.id} is {_words(batch)}: portico batches wait {batch.id}")
    _end(batch, as_json)


@app.command("list", epilog="Example: portico batches list --limit 5")
def show_all(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Number of batches, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List batches, newest first."""
    with connected(context) as client:
        page = client.batches.list(limit=limit)
    print_listing(page, as_json, BATCHES.columns, "No batches yet: portico batches create requests.jsonl")


@app.command(epilog="Example: portico batches show batch_0192f6")
def show(context: typer.Context, batch_id: Identity, as_json: AsJson = False) -> None:
    """Show a batch: its status, its files, and the errors of its requests."""
    with connected(context) as client:
        batch = client.batches.get(batch_id)
    if as_json:
        print_json(batch)
        return
    tokens = f"{batch.prompt_tokens:,} read, {batch.completion_tokens:,} written"
    print_fields(
        [
            *fields_of(batch, "id", "endpoint", "model", "status"),
            ("done", batch.progress),
            ("failed", batch.failed or None),
            ("tokens", tokens if batch.done else None),
            ("began", moment(batch.created_at)),
            ("ended", moment(batch.ended_at)),
            ("expires", None if batch.ended else moment(batch.expires_at)),
            ("input file", batch.input_file_id),
            ("output file", batch.output_file_id),
            ("error file", batch.error_file_id),
            ("run", batch.run_id),
        ]
    )
    _problems(batch.errors)


@app.command(epilog="Example: portico batches wait batch_0192f6")
def wait(context: typer.Context, batch_id: Identity, as_json: AsJson = False) -> None:
    """Show the progress of a batch until it has ended. Ctrl-C leaves it running."""
    with connected(context) as client:
        batch = _follow(client, client.batches.get(batch_id), quiet=as_json)
    if as_json:
        print_json(batch)
    _end(batch, as_json)


@app.command(epilog="Example: portico batches cancel batch_0192f6")
def cancel(context: typer.Context, batch_id: Identity, as_json: AsJson = False) -> None:
    """Stop a batch. The results contain the requests that have been answered by then."""
    with connected(context) as client:
        batch = client.batches.cancel(batch_id)
    print_outcome(batch, as_json, f"{batch.id} is {_words(batch)}.")


@app.command(epilog="Example: portico batches results batch_0192f6 --output answers.jsonl")
def results(
    context: typer.Context,
    batch_id: Identity,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the results to this file, one JSON object per line."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the results of a batch, answers and errors, in the order of the requests."""
    with connected(context) as client:
        batch = client.batches.get(batch_id)
        if not batch.ended:
            typer.echo(f"{batch.id} is {_words(batch)}: portico batches wait {batch.id}", err=True)
            raise typer.Exit(1)
        batch_results = client.batches.results(batch_id)
        if output is not None:
            with output.open("w", encoding="utf-8") as file:
                result_count = sum(
                    bool(file.write(f"{json.dumps(asdict(result), ensure_ascii=False)}\n"))
                    for result in batch_results
                )
            print_outcome(
                {"output": str(output), "results": result_count},
                as_json,
                f"{result_count:,} results in {output}",
            )
        elif as_json:
            print_json({"data": list(batch_results)})
        else:
            print_rows(
                ("REQUEST", "STATUS", "ANSWER"),
                ((r.custom_id, r.status_code, _outcome(r)) for r in batch_results),
            )


def _outcome(result: BatchResult) -> str:
    """Return the beginning of an answer of any kind."""
    if not result.ok:
        return one_line(result.error)[:100]
    body: dict[str, Any] = result.body if isinstance(result.body, dict) else {}
    for choice in body.get("choices") or ():
        text = choice.get("text") or (choice.get("message") or {}).get("content")
        return one_line(str(text or ""))[:100]
    for item in body.get("output") or ():
        for part in item.get("content") or ():
            return one_line(str(part.get("text") or ""))[:100]
    data = body.get("data") or body.get("results") or ()
    return f"{len(data)} {'vectors' if body.get('data') else 'documents'}"


def _print_checked(batch: CheckedBatch, as_json: bool) -> None:
    if as_json:
        print_json(batch)
    elif not batch.errors:
        typer.echo(f"{batch.total:,} requests for '{batch.model}': no problems. No model was called.")
    if batch.errors:
        if not as_json:
            _problems(batch.errors)
        raise typer.Exit(1)


def _problems(errors: tuple[BatchProblem, ...]) -> None:
    for error in errors[:_MAX_SHOWN_ITEMS]:
        place = "" if error.line is None else f"Line {error.line}: "
        typer.secho(one_line(f"{place}{error.message}"), fg="red", err=True)
    if len(errors) > _MAX_SHOWN_ITEMS:
        typer.secho(f"{len(errors) - _MAX_SHOWN_ITEMS} more.", fg="red", err=True)


def _follow(client: Client, batch: Batch, *, quiet: bool) -> Batch:
    """Wait until the batch has ended and return it. Show a progress bar on a terminal."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    from portico.cli.render import console

    out = console(error=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn())
    with Progress(
        *columns,
        TextColumn("{task.completed:.0f} of {task.total:.0f}", markup=False),
        TimeRemainingColumn(),
        console=out,
        transient=True,
        disable=quiet or not out.is_terminal,
    ) as bars:
        bar = bars.add_task(batch.status, total=batch.total)

        def show_progress(now: Batch) -> None:
            bars.update(bar, description=now.status, completed=now.done, total=now.total)

        batch = client.batches.wait(batch.id, progress=show_progress)
    if not quiet:
        typer.echo(f"{batch.id} is {_words(batch)}.")
    return batch


def _end(batch: Batch, as_json: bool) -> None:
    """Exit with code 1 if the batch was not completed successfully."""
    if batch.status in ("failed", "expired", "cancelled"):
        if not as_json:
            _problems(batch.errors)
        raise typer.Exit(1)


def _words(batch: Batch) -> str:
    progress = f", {batch.progress} done" if batch.total else ""
    failures = f", {batch.failed:,} of them failed" if batch.failed else ""
    return f"{batch.status.replace('_', ' ')}{progress}{failures}"
