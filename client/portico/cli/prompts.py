"""`portico prompts`: manages the prompt library."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from portico._filenames import to_local_filename
from portico.cli.nouns import (
    ID,
    OWNER,
    Everyone,
    print_listing,
    print_outcome,
    print_removed,
    print_table,
)
from portico.cli.pairs import json_or_text, pairs
from portico.cli.render import print_fields, print_json, print_rows, safe, shorten
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.errors import InvalidRequest
from portico.schemas.prompts import PROMPTS, Prompt
from portico.schemas.resource import Column

SUFFIXES = (".yaml", ".yml", ".md", ".prompty", ".prompt", ".json")

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")

app = group("prompts", "portico prompts import ./prompts")

Name = Annotated[str, typer.Argument(help="The prompt.")]
Version = Annotated[int | None, typer.Option(help="The version (default: the newest).")]


@app.command("list", epilog="Example: portico prompts list")
def show_all(context: typer.Context, everyone: Everyone = False, as_json: AsJson = False) -> None:
    """List the prompts."""
    columns = (ID, Column("NAME"), OWNER, Column("VERSION")) if everyone else PROMPTS.columns
    with connected(context) as client:
        prompts = client.prompts.list(everyone=everyone)
    print_listing(
        prompts,
        as_json,
        columns,
        "No prompts yet: portico prompts import FOLDER",
        {"DESCRIPTION": lambda prompt: shorten(prompt.description or prompt.title, 80)},
    )


@app.command(epilog="Example: portico prompts show review --version 2")
def show(context: typer.Context, name: Name, version: Version = None, as_json: AsJson = False) -> None:
    """Show a prompt: its arguments and its messages."""
    with connected(context) as client:
        prompt = client.prompts.get(name, version)
    if as_json:
        print_json(prompt)
        return
    print_fields(
        [
            ("name", prompt.name),
            ("version", prompt.version),
            ("from", prompt.origin or "written here"),
            ("what", prompt.description or prompt.title),
        ]
    )
    if prompt.arguments:
        print_rows(
            ("ARGUMENT", "TYPE", "NEEDED", "DEFAULT", "MEANING"),
            (
                (
                    item["name"],
                    item["type"],
                    "yes" if item["required"] else "",
                    "" if item.get("default") is None else item["default"],
                    item["description"],
                )
                for item in prompt.arguments
            ),
        )
    _print_messages(prompt.messages)
    for case in prompt.cases[:1]:
        typer.secho("\nexample", bold=True)
        for key, value in case["arguments"].items():
            typer.echo(f"{safe(key)}: {safe(str(value))}")
        typer.secho("answer", bold=True)
        typer.echo(safe(case["answer"]))


@app.command(epilog="Example: portico prompts render review language=Python code='print(1)'")
def render(
    context: typer.Context,
    name: Name,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME=VALUE…", help="Values of the prompt's arguments; valid JSON is parsed as JSON."
        ),
    ] = None,
    version: Version = None,
    as_json: AsJson = False,
) -> None:
    """Print the messages of a prompt with all arguments filled in."""
    with connected(context) as client:
        prompt = client.prompts.get(name, version)
        texts = {item["name"] for item in prompt.arguments if item["type"] == "string"}
        given_arguments = {
            key: value if key in texts else json_or_text(value)
            for key, value in pairs(arguments, "arguments").items()
        }
        messages = client.prompts.render(name, given_arguments, version=prompt.version)
    if as_json:
        print_json({"name": prompt.name, "version": prompt.version, "messages": list(messages)})
    else:
        _print_messages(messages)


@app.command(epilog="Example: portico prompts add greeting 'Say hello to {name} in {language}.'")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name of the prompt.")],
    text: Annotated[
        str, typer.Argument(help="The user's message; {word} is replaced by the argument of that name.")
    ],
    system: Annotated[str, typer.Option(help="A system message to place first.")] = "",
    describe: Annotated[str, typer.Option(help="The purpose of the prompt.")] = "",
    as_json: AsJson = False,
) -> None:
    """Save a prompt whose arguments are all required texts. Files offer more options: portico prompts import."""
    messages = [
        {"role": role, "content": content}
        for role, content in (("system", system), ("user", text))
        if content
    ]
    names = dict.fromkeys(
        placeholder for message in messages for placeholder in placeholders(message["content"])
    )
    with connected(context) as client:
        prompt = client.prompts.save(name, description=describe, arguments=list(names), messages=messages)
    print_outcome(prompt, as_json, f"'{prompt.name}' is now at version {prompt.version}.")


@app.command("import", epilog="Example: portico prompts import ./prompts --dry-run")
def import_(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="PATH|URL", help="A file, a folder, or a Git repository over https.")
    ],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Import prompts from .yaml, .md with front matter, .prompty, .prompt (Dotprompt) and LangChain's .json.

    Prompts that have not changed do not get a new version.
    """
    with connected(context) as client:
        if "://" in source:
            imported_prompts = client.prompts.load(url=source, dry_run=dry_run)
        else:
            files = prompt_files(Path(source))
            imported_prompts = client.prompts.load(
                files, origin=str(Path(source).absolute()), dry_run=dry_run
            )
    if as_json:
        print_json(imported_prompts)
        return
    would = "Would be " if dry_run else ""
    for word, names in (
        ("added", imported_prompts.added),
        ("changed", imported_prompts.changed),
        ("unchanged", imported_prompts.unchanged),
    ):
        if names:
            typer.echo(f"{would}{word}: {', '.join(map(safe, names))}")


@app.command(epilog="Example: portico prompts export portico/translate --format prompty")
def export(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="The prompts.")],
    format: Annotated[
        str, typer.Option(help="markdown, yaml, prompty, dotprompt or langchain; the first two are lossless.")
    ] = "markdown",
    to: Annotated[
        Path | None, typer.Option(help="A folder to write files into (default: standard output).")
    ] = None,
    version: Version = None,
    as_json: AsJson = False,
) -> None:
    """Write prompts as files, in Portico's format or in those of other tools."""
    with connected(context) as client:
        exported_prompts = [client.prompts.export(name, format, version=version) for name in names]  # type: ignore[arg-type]
    paths: list[Path] = []
    if to is not None:
        to.mkdir(parents=True, exist_ok=True)
        for item in exported_prompts:
            path = to / to_local_filename(item.filename)
            path.write_text(item.text, encoding="utf-8")
            paths.append(path)
    if as_json:
        print_json({"data": exported_prompts})
        return
    for text in map(str, paths) if paths else (item.text for item in exported_prompts):
        typer.echo(safe(text))


@app.command("eval", epilog="Example: portico prompts eval portico/rewrite-query --model default")
def evaluate(
    context: typer.Context,
    name: Name,
    model: Annotated[str, typer.Option(help="The model to ask.")] = "default",
    version: Version = None,
    as_json: AsJson = False,
) -> None:
    """Ask a model with each of the prompt's test cases. An answer passes if it contains the expected text."""
    with connected(context) as client:
        run = client.prompts.evaluate(name, model, version=version)
    if as_json:
        print_json(run)
    else:
        counts = run.result_counts
        typer.echo(
            f"{counts.get('passed', 0)} of {run.items} answers of '{safe(run.model or model)}' passed. "
            f"Details: portico evals show {run.eval_id}"
        )
        if run.error:
            typer.echo(safe(run.error), err=True)
    if run.status != "completed" or run.result_counts.get("passed", 0) < run.items:
        raise typer.Exit(1)


@app.command(epilog="Example: portico prompts history review")
def history(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """List the versions of a prompt, newest first."""
    from datetime import datetime

    with connected(context) as client:
        prompts = client.prompts.history(name)

    def row(prompt: Prompt) -> tuple[Any, ...]:
        since = datetime.fromtimestamp(prompt.created_at).isoformat(" ", "minutes")
        return prompt.version, since, prompt.origin or "written here"

    print_table(prompts, as_json, ("VERSION", "SINCE", "FROM"), row)


@app.command(epilog="Example: portico prompts remove review --yes")
def remove(
    context: typer.Context, name: Name, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Remove a prompt with all its versions."""
    with connected(context) as client:
        prompt = client.prompts.get(name)
        if may_remove(f"Remove '{prompt.name}' with {prompt.version} versions?", yes=yes, dry_run=dry_run):
            client.prompts.remove(name)
    print_removed(prompt.name, f"'{prompt.name}'", dry_run, as_json)


def _print_messages(messages: Any) -> None:
    for message in messages:
        typer.secho(f"\n{message['role']}", bold=True)
        typer.echo(safe(message["content"]))


def prompt_files(source: Path) -> dict[str, str]:
    """Return the prompt files at a path, with their contents: the file itself, or all non-hidden files below a
    folder.
    """
    if source.is_file():
        return {source.name: _text(source)}
    if not source.is_dir():
        raise InvalidRequest(f"The file or folder {source} does not exist.", param="source")
    files: dict[str, str] = {}
    for at, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(at, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                files[path.relative_to(source).as_posix()] = _text(path)
    if not files:
        raise InvalidRequest(f"There are no {', '.join(SUFFIXES)} files in {source}.", param="source")
    return files


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not UTF-8 text.", param="source") from error


def placeholders(text: str) -> tuple[str, ...]:
    """Return the names in braces without duplicates, in order of appearance. Doubled braces are not placeholders."""
    return tuple(dict.fromkeys(match[1] for match in _PLACEHOLDER.finditer(text) if match[1]))
