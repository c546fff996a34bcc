"""`portico canaries`: aliases whose calls are split between the current target and a candidate for the next one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from portico.cli.nouns import fields_of, print_listing, print_outcome, print_table
from portico.cli.render import moment, print_fields, print_json, print_rows, safe
from portico.cli.root import group
from portico.cli.session import AsJson, connected
from portico.errors import InvalidRequest
from portico.schemas.canaries import CANARIES, Canary, CanarySide

app = group("canaries", "portico canaries set assistant desk@4 --weight 0.1 --promote after=200")

AliasName = Annotated[
    str, typer.Argument(metavar="ALIAS", help="The alias; create one with portico models alias.")
]
Reason = Annotated[str, typer.Option(help="The reason, for the journal.")]


@app.command("list", epilog="Example: portico canaries list")
def show_all(context: typer.Context, as_json: AsJson = False) -> None:
    """List the newest canary of each alias."""
    with connected(context) as client:
        canaries = client.canaries.list()
    print_listing(
        canaries, as_json, CANARIES.columns, "No canaries yet: portico canaries set ALIAS TARGET --weight 0.1"
    )


@app.command("set", epilog="Example: portico canaries set assistant desk@4 --weight 0.1 --promote after=200")
def put(
    context: typer.Context,
    alias: AliasName,
    target: Annotated[str, typer.Argument(help="The possible next target: a model, or APP@VERSION.")],
    weight: Annotated[
        float | None,
        typer.Option(help="The share of calls to the canary, from 0 to 1: required unless a key is given."),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(help="A key whose calls always go to the canary, by name or id; repeatable."),
    ] = None,
    sticky: Annotated[
        str | None,
        typer.Option(help="What always stays on the same side: session (default), caller or request."),
    ] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            help="The current target answers where the canary's answer has a lower mean probability, from 0 to 1."
        ),
    ] = None,
    evaluation: Annotated[
        str | None, typer.Option("--eval", help="The evaluation that grades live answers.")
    ] = None,
    sample: Annotated[
        float | None,
        typer.Option(
            help="The share of answers that are graded; without --eval, compared with the current target's."
        ),
    ] = None,
    promote: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="A condition for promotion (repeatable), one of: after, min_samples, min_score, max_drop, "
            "max_error_rate, max_latency_ratio.",
        ),
    ] = None,
    rollback: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="A condition for rollback; repeatable: it rolls back when a condition is not met.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Split the calls of an alias, or change the weight and rules of its canary."""
    if weight is None and not key:
        raise InvalidRequest(
            f"What share of the calls goes to {safe(target)}? Set a share, such as --weight 0.1, or a key "
            "whose calls always go to it: --key NAME.",
            param="weight",
        )
    with connected(context) as client:
        canary = client.canaries.set(
            alias,
            target,
            weight=weight,
            keys=key or None,
            sticky=sticky,
            min_confidence=min_confidence,
            sample=sample,
            eval=evaluation,
            promote=_rule(promote, "promote"),
            rollback=_rule(rollback, "rollback"),
        )
    _print(canary, as_json)


@app.command(epilog="Example: portico canaries show assistant")
def show(context: typer.Context, alias: AliasName, as_json: AsJson = False) -> None:
    """Show the newest canary of an alias: both sides, its conditions, and its history."""
    with connected(context) as client:
        canary = client.canaries.get(alias)
    if as_json:
        print_json(canary)
        return
    print_fields(
        [
            *fields_of(canary, "alias", "status", "reason"),
            ("weight", share_of(canary.weight)),
            ("keys", ", ".join(canary.keys) or None),
            ("sticky", canary.sticky),
            ("min confidence", canary.min_confidence),
            (
                "judged by",
                f"{canary.eval}, {share_of(canary.sample)} of the answers" if canary.eval else None,
            ),
            ("promote", conditions_of(canary.promote)),
            ("rollback", conditions_of(canary.rollback)),
            ("waits for", "; ".join(canary.waits_for) or None),
        ]
    )
    typer.echo()
    sides = (("baseline", canary.baseline), ("canary", canary.canary))
    print_rows(
        ("SIDE", "TARGET", "CALLS", "ERRORS", "MS", "TOKENS", "JUDGED", "SCORE"),
        ((name, *_figures(side)) for name, side in sides),
    )
    typer.echo()
    print_rows(
        ("AT", "DONE", "BY", "WHY"),
        (
            (moment(canary_entry.at), canary_entry.action, canary_entry.by or "the rule", canary_entry.reason)
            for canary_entry in canary.journal
        ),
    )


@app.command(epilog="Example: portico canaries history assistant")
def history(context: typer.Context, alias: AliasName, as_json: AsJson = False) -> None:
    """List the canaries of an alias, newest first."""
    with connected(context) as client:
        canaries = client.canaries.history(alias)
    print_table(
        canaries,
        as_json,
        ("SINCE", "STATUS", "BASELINE", "CANARY", "WHY"),
        lambda canary: (
            moment(canary.created_at),
            canary.status,
            canary.baseline.target,
            canary.canary.target,
            canary.reason,
        ),
    )


@app.command(epilog='Example: portico canaries promote assistant --reason "Looks good"')
def promote(context: typer.Context, alias: AliasName, reason: Reason = "", as_json: AsJson = False) -> None:
    """Point the alias to the canary's target from now on."""
    with connected(context) as client:
        canary = client.canaries.promote(alias, reason=reason)
    _print(canary, as_json)


@app.command(epilog="Example: portico canaries rollback assistant")
def rollback(context: typer.Context, alias: AliasName, reason: Reason = "", as_json: AsJson = False) -> None:
    """Send all calls to the alias's current target again. Calls in progress finish where they are."""
    with connected(context) as client:
        canary = client.canaries.rollback(alias, reason=reason)
    _print(canary, as_json)


def rule_of(pairs: Iterable[str]) -> dict[str, Any] | None:
    """Parse conditions such as ``after=200``. Return ``None`` if there are none. Raises `ValueError`."""
    rule: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"{safe(pair)}: expected NAME=NUMBER, such as after=200.") from None
        rule[name] = int(number) if number.is_integer() else number
    return rule or None


def _rule(pairs: list[str] | None, option: str) -> dict[str, Any] | None:
    try:
        return rule_of(pairs or ())
    except ValueError as error:
        raise InvalidRequest(f"--{option} {error}", param=option) from error


def conditions_of(rule: Mapping[str, Any] | None) -> str | None:
    """Format a rule as its conditions, such as ``after=200``. Return ``None`` for no conditions."""
    return ", ".join(f"{name}={value:g}" for name, value in rule.items()) if rule else None


def share_of(value: float) -> str:
    """Format a share as a percentage."""
    return f"{value:.1%}"


def _figures(side: CanarySide) -> tuple[Any, ...]:
    return (
        side.target,
        side.calls,
        side.errors,
        "" if side.milliseconds is None else f"{side.milliseconds:.0f}",
        side.tokens,
        side.samples,
        "" if side.score is None else f"{side.score:.3f}",
    )


def _print(canary: Canary, as_json: bool) -> None:
    name, target, baseline = safe(canary.alias), safe(canary.canary.target), safe(canary.baseline.target)
    if canary.status == "running":
        keys = f" and {len(canary.keys)} keys" if canary.keys else ""
        text = f"{name}: {target} gets {share_of(canary.weight)} of the calls{keys}, {baseline} the rest."
    else:
        alias_target = target if canary.status == "promoted" else baseline
        text = f"{name} points to {alias_target}: the canary was {canary.status.replace('_', ' ')}."
    print_outcome(canary, as_json, text)
