"""`portico chunk`: shows side by side how several strategies would split a document."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from portico.cli.progress import Spinner
from portico.cli.render import console, one_line, print_json, print_rows, safe, shorten
from portico.cli.session import AsJson, connected
from portico.schemas.chunks import Chunk, Cut

app = typer.Typer()

MAX_QUOTE_CHARS = 400
"""Maximum length of a displayed chunk, in characters."""


@app.command(epilog="Example: portico chunk report.pdf --strategy page --strategy topic")
def chunk(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The document, on this machine.")],
    strategy: Annotated[
        list[str] | None,
        typer.Option("-s", "--strategy", help="A name from `portico chunkers`; repeatable."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=50, max=20_000, help="Approximate size of a chunk, in columns.")
    ] = None,
    overlap: Annotated[int | None, typer.Option(min=0, help="Overlap between chunks, in columns.")] = None,
    model: Annotated[
        str | None, typer.Option(help="The model that creates the chunks, if the chunker needs one.")
    ] = None,
    number: Annotated[int, typer.Option("-n", "--number", min=1, max=1_000, help="Number of chunks.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show side by side how strategies would split a document. Nothing is stored."""
    strategies = [_strategy(name, size, overlap, model) for name in strategy or ["auto"]]
    with connected(context) as client, Spinner(f"Reading {file.name}"):
        cuts = client.chunkers.preview(file, *strategies, limit=number)
    if as_json:
        print_json({"data": cuts})
    elif sys.stdout.isatty():
        console().print(_table(cuts))
    else:
        print_rows(
            ("STRATEGY", "CHUNK", "OF", "PLACE", "TEXT"),
            (
                (cut.strategy["type"], i, cut.total, item.place.label(), item.text)
                for cut in cuts
                for i, item in enumerate(cut.chunks, start=1)
            ),
        )


def _strategy(name: str, size: int | None, overlap: int | None, model: str | None) -> Mapping[str, Any]:
    options = {"size": size, "overlap": overlap, "model": model}
    sizes = {} if name == "auto" else {key: value for key, value in options.items() if value is not None}
    return {"type": name, **sizes}


def _table(cuts: Sequence[Cut]) -> Table:
    """Return a table with a column for each strategy and a row for each chunk."""
    table = Table(show_lines=True, header_style="bold")
    table.add_column("", style="dim", no_wrap=True)
    for cut in cuts:
        sizes = f"{cut.shortest:,}–{cut.longest:,} characters" if cut.total else ""
        table.add_column(
            f"{one_line(cut.strategy['type'])}\n{cut.total:,} chunks\n{sizes}", ratio=1, overflow="fold"
        )
    for i, row in enumerate(zip_longest(*(cut.chunks for cut in cuts)), start=1):
        table.add_row(str(i), *(_cell(item) for item in row))
    return table


def _cell(item: Chunk | None) -> Text:
    if item is None:
        return Text("")
    place = item.place.label()
    text = safe(item.text) if len(item.text) <= MAX_QUOTE_CHARS else shorten(item.text, MAX_QUOTE_CHARS)
    return Text.assemble((f"{one_line(place)}\n" if place else "", "cyan"), text)
