"""`portico keys`: manages who can call the daemon and what they can do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import typer

from portico.cli.limits import format_limits, limits_of
from portico.cli.nouns import (
    After,
    Limit,
    NameQuery,
    fields_of,
    print_item,
    print_listing,
    print_outcome,
    print_table,
)
from portico.cli.render import amount, moment, print_json
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.errors import InvalidRequest, NotFound
from portico.schemas.keys import KEYS

_KINDS: Final = {"=": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_SIGNS: Final = {**{kind: sign for sign, kind in _KINDS.items()}, "in": " in ", "nin": " not in "}
_COMPARISON: Final = re.compile(r"([^=!<>]+)(!=|>=|<=|=|>|<)(.*)", re.DOTALL)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The id of the key.")]

Groups = Annotated[
    list[str] | None,
    typer.Option(
        "--group",
        help="A group of the key at the sources of stores with rights; user:NAME for a user of a folder. Repeatable.",
    ),
]

app = group("keys", "portico keys create --name phone --scope chat --scope stores:docs:read")


@app.command(
    epilog="Example: portico keys create --name sales --scope stores:handbook:read --filter handbook:team=sales"
)
def create(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="The owner of the key.")],
    scope: Annotated[
        list[str],
        typer.Option(
            help="What the key can do: admin, chat, models:read, stores:NAME:read (or write, manage), "
            "apps:NAME:call, tools:NAME:call; * for any name. Repeatable."
        ),
    ],
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="A usage limit: concurrency, requests_per_minute, tokens_per_minute, tokens_per_day or "
            "storage_mb; repeatable.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="STORE:ATTRIBUTE=VALUE",
            help="Which files of a store the key can read, by attribute: handbook:team=sales, with =, !=, >, "
            ">=, <, <= or the JSON of a filter after the colon; * for any store. Several filters for one "
            "store must all match.",
        ),
    ] = None,
    groups: Groups = None,
    as_json: AsJson = False,
) -> None:
    """Create a key. Its secret is shown only once."""
    with connected(context) as client:
        key = client.keys.add(
            name, scope, limits=limits_of(limit or ()), filters=_filters_of(only or ()), groups=groups
        )
    if as_json:
        print_json(key)
        return
    typer.echo(key.key)
    typer.echo(f"The key '{key.name}' ({key.id}) is shown only this once.", err=True)


@app.command("list", epilog="Example: portico keys list")
def show_all(
    context: typer.Context,
    blocked: Annotated[
        bool, typer.Option("--blocked", help="List blocked users instead; these are users who signed in.")
    ] = False,
    limit: Limit = None,
    after_id: After = None,
    query: NameQuery = None,
    as_json: AsJson = False,
) -> None:
    """List the keys, without their secrets."""
    with connected(context) as client:
        keys = client.keys.list(blocked=blocked, limit=limit, after=after_id, query=query)
    if blocked:
        headings = ("ID", "NAME", "ISSUER", "SUBJECT", "SINCE")
        print_table(
            keys, as_json, headings, lambda k: (k.id, k.name, k.issuer, k.subject, moment(k.blocked_at))
        )
        return
    empty = "No keys yet: portico keys create --name NAME --scope chat"
    print_listing(keys, as_json, KEYS.columns, empty, {"FILTERS": lambda key: _format_filters(key.filters)})


@app.command(epilog="Example: portico keys show sales")
def show(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="NAME|ID", help="The name or the id of the key.")],
    as_json: AsJson = False,
) -> None:
    """Show what a key can do and which files of stores it can read."""
    with connected(context) as client:
        found_key = next((item for item in client.keys.list() if key in (item.id, item.name)), None)
    if found_key is None:
        raise NotFound(f"There is no key '{key}'; list the keys: portico keys list", status=404, param="key")
    print_item(
        found_key,
        as_json,
        *fields_of(found_key, "id", "name", "issuer", "subject"),
        ("made", moment(found_key.created_at)),
        *(("scope", scope) for scope in found_key.scopes),
        *(("filter", item) for item in _format_filters(found_key.filters)),
        *(("group", item) for item in found_key.groups),
        *(("limit", item) for item in format_limits(found_key.limits)),
        ("stored", amount(found_key.stored_bytes)),
    )


@app.command(epilog="Example: portico keys update key_0192f6 --scope chat")
def update(
    context: typer.Context,
    key_id: KeyId,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="All scopes from now on; omit to keep the current scopes. Repeatable."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="STORE:ATTRIBUTE=VALUE",
            help="Which files of a store the key can read from now on, as with `create`; omit to keep the "
            "current filters.",
        ),
    ] = None,
    no_filters: Annotated[bool, typer.Option("--no-filters", help="Remove all filters.")] = False,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="All limits from now on, as with `create`; omit to keep the current limits. Past usage "
            "counts.",
        ),
    ] = None,
    no_limits: Annotated[bool, typer.Option("--no-limits", help="Remove all limits.")] = False,
    groups: Groups = None,
    no_groups: Annotated[bool, typer.Option("--no-groups", help="Remove all groups.")] = False,
    as_json: AsJson = False,
) -> None:
    """Change the scopes, filters, limits or groups of a key, effective immediately. If its permissions shrink, its
    running work is stopped.
    """
    if no_filters and only:
        raise InvalidRequest("Use either --filter or --no-filters, not both.")
    if no_groups and groups:
        raise InvalidRequest("Use either --group or --no-groups, not both.")
    if no_limits and limit:
        raise InvalidRequest("Use either --limit or --no-limits, not both.")
    if not (scope or only or no_filters or limit or no_limits or groups or no_groups):
        raise InvalidRequest(
            "Give at least one change: --scope, --filter, --no-filters, --limit, --no-limits, --group or "
            "--no-groups."
        )
    with connected(context) as client:
        filters = _filters_of(only or ()) if only or no_filters else None
        limits = limits_of(limit or ()) if limit or no_limits else None
        key = client.keys.update(
            key_id,
            scopes=scope or None,
            filters=filters,
            limits=limits,
            groups=groups or ([] if no_groups else None),
        )
    if as_json:
        print_json(key)
        return
    typer.echo(f"'{key.name}' may: {', '.join(key.scopes)}.")
    for item in _format_filters(key.filters):
        typer.echo(f"It can read {item}.")
    if key.groups:
        typer.echo(f"Its groups are {', '.join(key.groups)}.")
    if limits:
        typer.echo(f"It is limited to {', '.join(format_limits(key.limits))}.")


@app.command(epilog="Example: portico keys revoke key_0192f6 --yes")
def revoke(
    context: typer.Context, key_id: KeyId, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Revoke a key immediately."""
    with connected(context) as client:
        found_key = next((key for key in client.keys.list() if key.id == key_id), None)
        if found_key is None:
            raise NotFound(
                f"There is no key '{key_id}'; list the keys: portico keys list", status=404, param="id"
            )
        if may_remove(f"Revoke the key '{found_key.name}'?", yes=yes, dry_run=dry_run):
            client.keys.revoke(key_id)
    print_outcome(
        {"revoked": None if dry_run else key_id, "would_revoke": key_id},
        as_json,
        f"{'Would revoke' if dry_run else 'Revoked'} '{found_key.name}'.",
    )


@app.command(epilog="Example: portico keys unblock user_5f2c1e")
def unblock(context: typer.Context, key_id: KeyId, as_json: AsJson = False) -> None:
    """Unblock a user who signs in. The user's next token determines what the user can do."""
    with connected(context) as client:
        key = client.keys.unblock(key_id)
    print_outcome(key, as_json, f"'{key.name}' can sign in again.")


def _filters_of(filters: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Parse filters and return them keyed by store. Several filters for one store must all match. Raises
    `InvalidRequest` for a malformed filter.

    A JSON number, ``true``, ``false`` or a quoted text keeps its JSON type; any other value is text.
    """
    parts_by_store: dict[str, list[dict[str, Any]]] = {}
    for text in filters:
        store, colon, remainder = text.partition(":")
        if not store or not colon:
            raise _refusal(text)
        parts_by_store.setdefault(store, []).append(_filter(remainder, text))
    return {
        store: parts[0] if len(parts) == 1 else {"type": "and", "filters": parts}
        for store, parts in parts_by_store.items()
    }


def _filter(filter_text: str, text: str) -> dict[str, Any]:
    if filter_text.lstrip().startswith("{"):
        try:
            value: dict[str, Any] = json.loads(filter_text)
        except json.JSONDecodeError as error:
            raise InvalidRequest(f"The filter '{text}' is not JSON: {error}.") from error
        return value
    match = _COMPARISON.fullmatch(filter_text)
    if match is None:
        raise _refusal(text)
    key, sign, value_text = match.groups()
    return {"type": _KINDS[sign], "key": key.strip(), "value": _value(value_text.strip())}


def _value(text: str) -> str | float | bool:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value if isinstance(value, str | int | float) else text


def _format_filters(filters: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Format filters for display, such as ``handbook: team=sales``."""
    return tuple(f"{store}: {_format_filter(item)}" for store, item in (filters or {}).items())


def _format_filter(item: Mapping[str, Any]) -> str:
    if "filters" in item:
        parts = [
            f"({_format_filter(part)})" if "filters" in part else _format_filter(part)
            for part in item["filters"]
        ]
        return f" {item['type']} ".join(parts)
    value = item["value"]
    value_text = (
        value if isinstance(value, str) and _value(value) == value else json.dumps(value, ensure_ascii=False)
    )
    return f"{item['key']}{_SIGNS.get(item['type'], item['type'])}{value_text}"


def _refusal(text: str) -> InvalidRequest:
    return InvalidRequest(
        f"'{text}' is not a filter: expected STORE:ATTRIBUTE=VALUE, such as handbook:team=sales, with one of "
        f"{', '.join(_KINDS)}, or STORE:JSON in the format of search filters."
    )
