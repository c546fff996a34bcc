"""`portico stores themes`: what a store is about."""

from __future__ import annotations

import typer

from portico.cli.links import Name
from portico.cli.nouns import print_table
from portico.cli.render import print_json
from portico.cli.session import AsJson, connected


def show_themes(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show what a store is about: its themes, and the names that its passages mention most often."""
    with connected(context) as client:
        store_themes = client.stores.themes(name)
    if as_json:
        print_json(store_themes)
        return
    print_table(
        store_themes.themes,
        False,
        ("THEME", "PASSAGES", "FILES", "EXAMPLE"),
        lambda theme: (", ".join(theme.words), theme.passage_count, theme.file_count, theme.example.filename),
        f"The store '{name}' has no passages yet.",
    )
    if store_themes.names:
        typer.echo("")
        print_table(
            store_themes.names,
            False,
            ("NAME", "KIND", "PASSAGES", "EXAMPLE"),
            lambda item: (item.name, item.kind, item.passage_count, item.example.filename),
            "",
        )
    if store_themes.examined_count < store_themes.passage_count:
        typer.echo(f"Examined {store_themes.examined_count:,} of {store_themes.passage_count:,} passages.")
