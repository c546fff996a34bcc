"""Teams in a configuration file: members and how they cooperate, compiled into a flow as `portico.agent.teams` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from portico_server.core.errors import InvalidRequest
from portico_server.core.json_values import JsonObject

if TYPE_CHECKING:
    from portico._teams import Speaker

KINDS: Final = ("sequence", "round_robin", "moderator", "decentralised", "debate", "hierarchical")


def team_flow(value: Any, name: str, at: str) -> dict[str, Any]:
    """Return the flow specification of the team ``name``.

    ``kind`` is one of `KINDS`; ``members`` are names of deployments, or ``{"human": NAME, "limit": SECONDS}``. Raises
    `InvalidRequest` that names the place of the error.
    """
    from portico import flow

    fields = JsonObject(value, at)
    kind = fields.required_text("kind", f"one of {', '.join(KINDS)}")
    if kind not in KINDS:
        raise InvalidRequest(
            f"{fields.path('kind')} is '{kind}'; it must be one of {', '.join(KINDS)}.",
            code="invalid_spec",
            param=fields.path("kind"),
        )
    members = [
        _member(item, f"{fields.path('members')}[{number}]")
        for number, item in enumerate(fields.items("members") or ())
    ]
    step = _STEPS[kind](fields, members)
    fields.check_unread()
    _several(members, 2 if kind == "debate" else 1, fields.path("members"))
    new_flow = flow.flow(step(), name=name, durability="normal")
    assert not new_flow.functions, "the computations of a team are serializable"
    return {key: item for key, item in new_flow.spec.items() if key != "name"}


def _member(item: Any, at: str) -> Speaker:
    from portico._teams import Speaker

    if isinstance(item, str) and item:
        return Speaker(item, item)
    inner = JsonObject(item, at)
    person = inner.required_text("human", "the name of a person; to name a deployment, use a plain string")
    limit = inner.number("limit", 86_400.0, minimum=0.01, maximum=604_800) or 86_400.0
    inner.check_unread()
    return Speaker(person, limit=limit)


def _several(members: list[Speaker], minimum: int, at: str) -> None:
    names = [member.name for member in members]
    if len(names) < minimum or len(set(names)) < len(names):
        raise InvalidRequest(
            f"{at}: a team of this kind needs at least {minimum} members with distinct names.",
            code="invalid_spec",
            param=at,
        )


Composed = Callable[[], Any]
"""Builds the step after all fields were read."""


def _sequence(_fields: JsonObject, members: list[Speaker]) -> Composed:
    from portico import _teams as shapes

    return lambda: shapes.sequence(members)


def _round_robin(fields: JsonObject, members: list[Speaker]) -> Composed:
    from portico import _teams as shapes

    rounds, final = fields.integer("rounds", 3, minimum=1, limit=1000), fields.text("final")
    return lambda: shapes.round_robin(members, rounds, final)


def _moderator(fields: JsonObject, members: list[Speaker]) -> Composed:
    from portico import _teams as shapes

    boss, turns, final = _read_speaker(fields, "moderator"), _turns(fields), fields.text("final")
    return lambda: shapes.moderated(boss, members, turns, final)


def _decentralised(fields: JsonObject, members: list[Speaker]) -> Composed:
    from portico import _teams as shapes

    turns, final = _turns(fields), fields.text("final")
    people = [member.name for member in members if not member.deployed]
    if people:
        raise InvalidRequest(
            f"{fields.path('members')}: '{people[0]}' is a person; a person cannot bid for each turn.",
            code="invalid_spec",
            param=fields.path("members"),
        )
    return lambda: shapes.bidding(members, turns, final)


def _debate(fields: JsonObject, members: list[Speaker]) -> Composed:
    from portico import _teams as shapes

    judge, rounds = _read_speaker(fields, "judge"), fields.integer("rounds", 2, minimum=1, limit=100)
    return lambda: shapes.debate(members, judge, rounds)


def _hierarchical(fields: JsonObject, members: list[Speaker]) -> Composed:
    from portico import _teams as shapes

    manager, concurrency = (
        _read_speaker(fields, "manager"),
        fields.integer("concurrency", 8, minimum=1, limit=256),
    )
    return lambda: shapes.hierarchy(manager, members, concurrency)


def _read_speaker(fields: JsonObject, key: str) -> Speaker:
    from portico._teams import Speaker

    name = fields.required_text(key, "the name of a deployment")
    return Speaker(name, name)


def _turns(fields: JsonObject) -> int:
    return fields.integer("turns", 12, minimum=1, limit=1000)


_STEPS: Final[Mapping[str, Callable[[JsonObject, list[Speaker]], Composed]]] = {
    "sequence": _sequence,
    "round_robin": _round_robin,
    "moderator": _moderator,
    "decentralised": _decentralised,
    "debate": _debate,
    "hierarchical": _hierarchical,
}
