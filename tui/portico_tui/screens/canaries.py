"""Canaries: aliases whose calls are split between the current target and a candidate for the next one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from textual.content import Content

from portico.cli.canaries import conditions_of, rule_of, share_of
from portico.schemas.canaries import Canary, CanarySide
from portico_tui.screens.page import AppServices, ListingScreen, SublistScreen, action, row_action
from portico_tui.text import cell, clock, one_line
from portico_tui.widgets.dialogs import Answers, Field, Form
from portico_tui.widgets.table_rows import TableColumn

COLOURS = {"running": "yellow", "promoted": "green", "rolled_back": "red"}


def _status(canary: Canary) -> Any:
    return cell(canary.status.replace("_", " "), COLOURS[canary.status])


class CanariesScreen(ListingScreen[Canary]):
    """The newest canary of each alias."""

    MODE = "canaries"
    TAB = "Canaries"
    COLUMNS = (
        TableColumn[Canary]("ALIAS", lambda canary: canary.alias, "bold", 24),
        TableColumn[Canary]("STATUS", _status),
        TableColumn[Canary]("BASELINE", lambda canary: canary.baseline.target, "", 24),
        TableColumn[Canary]("CANARY", lambda canary: canary.canary.target, "", 24),
        TableColumn[Canary](
            "WEIGHT", lambda canary: share_of(canary.weight), sort=lambda canary: canary.weight
        ),
        TableColumn[Canary](
            "CALLS", lambda canary: canary.canary.calls, sort=lambda canary: canary.canary.calls
        ),
    )
    EMPTY = "No canaries yet.\n\nPress n to send a share of an alias's calls to a possible next target."

    async def find(self) -> Sequence[Canary]:
        return await self.client.canaries.list()

    def detail(self, item: Canary) -> Iterable[Content | str]:
        for name, side in (("baseline", item.baseline), ("canary", item.canary)):
            yield one_line(f"{name}: {_figures(side)}")
        if item.keys:
            yield one_line(f"always: {', '.join(item.keys)}")
        if item.eval:
            yield one_line(f"{item.eval} grades {share_of(item.sample)} of the answers")
        for name, rule in (("promote", item.promote), ("rollback", item.rollback)):
            if condition_text := conditions_of(rule):
                yield f"{name}: {condition_text}"
        if item.waits_for:
            yield one_line(f"waits for {'; '.join(item.waits_for)}")
        if item.reason:
            yield one_line(item.reason)

    @row_action("enter", "History", "Previous canaries of the alias and their history")
    async def history(self, canary: Canary) -> None:
        self.app.push_screen(CanaryHistoryScreen(self.services, canary.alias))

    @action("n", "New", "Split the calls of an alias")
    async def new(self) -> None:
        await self._set(None)

    @row_action("e", "Edit", "Change the weight or rules", when=lambda canary: canary.status == "running")
    async def edit(self, canary: Canary) -> None:
        await self._set(canary)

    async def _set(self, canary: Canary | None) -> None:
        answers = await self.ask(Form("Split the calls of an alias", *_fields(canary)))
        if answers is None:
            return
        alias, target = (
            (answers["alias"], answers["target"]) if canary is None else (canary.alias, canary.canary.target)
        )
        new_canary = await self.client.canaries.set(alias, target, **_to_fields(answers))
        self.report(
            "Canary", f"{new_canary.canary.target} receives {share_of(new_canary.weight)} of the calls."
        )

    @row_action(
        "p",
        "Promote",
        "Point the alias to the canary's target",
        when=lambda canary: canary.status == "running",
    )
    async def promote(self, canary: Canary) -> None:
        answers = await self.ask(Form(f"Promote {canary.canary.target}", _reason()))
        if answers is not None:
            await self.client.canaries.promote(canary.alias, reason=answers["reason"])

    @row_action(
        "b",
        "Roll back",
        "Send all calls to the alias's current target again",
        when=lambda canary: canary.status == "running",
    )
    async def rollback(self, canary: Canary) -> None:
        answers = await self.ask(Form(f"Take {canary.canary.target} back", _reason()))
        if answers is not None:
            await self.client.canaries.rollback(canary.alias, reason=answers["reason"])


def _figures(side: CanarySide) -> str:
    figures = [side.target, f"{side.calls:,} calls", f"{side.errors:,} errors"]
    if side.milliseconds is not None:
        figures.append(f"{side.milliseconds:,.0f} ms")
    figures.append(f"{side.tokens:,} tokens")
    if side.score is not None:
        figures.append(f"score {side.score:.3f} of {side.samples:,}")
    return " · ".join(figures)


def _reason() -> Field:
    return Field("reason", "Reason, for the journal · optional", optional=True)


def _fields(canary: Canary | None) -> Iterable[Field]:
    if canary is None:
        yield Field("alias", "Alias")
        yield Field("target", "Possible next target", hint="a model, or APP@VERSION")
    weight = f"{canary.weight:g}" if canary else "0.1"
    yield Field("weight", "Share of the calls, from 0 to 1", weight, check=float)
    yield Field(
        "keys",
        "Keys whose calls always go to the canary · optional",
        ", ".join(canary.keys) if canary else "",
        optional=True,
    )
    yield Field(
        "sticky",
        "What always stays on the same side",
        canary.sticky if canary else "session",
        choices=("session", "caller", "request"),
    )
    yield Field(
        "eval",
        "Evaluation that grades live answers · optional",
        (canary and canary.eval) or "",
        optional=True,
    )
    least = canary.min_confidence if canary else None
    yield Field(
        "min_confidence",
        "Mean probability below which the current target answers · optional",
        f"{least:g}" if least is not None else "",
        optional=True,
        check=float,
    )
    sample = f"{canary.sample:g}" if canary and canary.sample else ""
    yield Field(
        "sample",
        "Share of the answers that are graded or compared · optional",
        sample,
        optional=True,
        check=float,
    )
    for name, says in (
        ("promote", "Promote when all are met"),
        ("rollback", "Roll back when one is not met"),
    ):
        rule = conditions_of(getattr(canary, name) if canary else None) or ""
        yield Field(
            name,
            f"{says} · optional",
            rule,
            hint="after=200, max_error_rate=0.02",
            optional=True,
            check=lambda text: rule_of(_split_names(text)),
        )


def _split_names(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _to_fields(answers: Answers) -> dict[str, Any]:
    """Convert the answers in the form to arguments of the call."""
    return {
        "weight": float(answers["weight"]),
        "keys": _split_names(answers["keys"]) or None,
        "sticky": answers["sticky"],
        "min_confidence": float(answers["min_confidence"]) if answers["min_confidence"] else None,
        "eval": answers["eval"] or None,
        "sample": float(answers["sample"]) if answers["sample"] else None,
        "promote": rule_of(_split_names(answers["promote"])),
        "rollback": rule_of(_split_names(answers["rollback"])),
    }


class CanaryHistoryScreen(SublistScreen[Canary]):
    """The canaries of an alias, newest first."""

    MODE = "canaries"
    TAB = "Canaries"
    COLUMNS = (
        TableColumn[Canary](
            "SINCE", lambda canary: clock(canary.created_at), "dim", sort=lambda canary: canary.created_at
        ),
        TableColumn[Canary]("STATUS", _status),
        TableColumn[Canary]("BASELINE", lambda canary: canary.baseline.target, "", 24),
        TableColumn[Canary]("CANARY", lambda canary: canary.canary.target, "", 24),
        TableColumn[Canary]("WHY", lambda canary: canary.reason or "", "dim"),
    )
    EMPTY = "No canaries."

    def __init__(self, services: AppServices, alias: str) -> None:
        super().__init__(services, f"Canaries of {alias}")
        self._alias = alias

    async def find(self) -> Sequence[Canary]:
        return await self.client.canaries.history(self._alias)

    def detail(self, item: Canary) -> Iterable[Content | str]:
        for entry in item.journal:
            texts = (
                clock(entry.at),
                entry.action.replace("_", " "),
                f"by {entry.by or 'the rule'}",
                entry.reason,
            )
            yield one_line(" · ".join(filter(None, texts)))
