"""Apps as a configuration file names them, under ``apps`` and ``agents``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from portico._document import explain, load
from portico_server.apps.agent import read as agents
from portico_server.apps.fields import Fields
from portico_server.apps.flow import read as flows
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.limits import UsageLimits
from portico_server.core.names import check_name

if TYPE_CHECKING:
    from portico._teams import Speaker


# Teams in a configuration file: who works together and how, made into a flow like those of `portico.agent.teams`.


KINDS: Final = ("sequence", "round_robin", "moderator", "decentralised", "debate", "hierarchical")


def flow_of(value: Any, name: str, at: str) -> dict[str, Any]:
    """The specification of the flow of a team called ``name``.

    ``kind`` is one of `KINDS`; ``members`` are names of what is deployed, or ``{"human": NAME, "limit": SECONDS}``.
    Raises `InvalidRequest` that names the place of what is wrong.
    """
    from portico import flow  # only who has a team pays for what composes it

    fields = Fields(value, at)
    kind = fields.needed("kind", f"one of {', '.join(KINDS)}")
    if kind not in KINDS:
        raise InvalidRequest(
            f"{fields.path('kind')} is '{kind}'; it is one of {', '.join(KINDS)}.",
            code="invalid_spec",
            param=fields.path("kind"),
        )
    members = [
        _member(item, f"{fields.path('members')}[{number}]")
        for number, item in enumerate(fields.items("members") or ())
    ]
    step = _STEPS[kind](fields, members)
    fields.done()
    _several(members, 2 if kind == "debate" else 1, fields.path("members"))
    made = flow.flow(step(), name=name, durability="normal")
    assert not made.functions, "what teams compute travels"
    return {key: item for key, item in made.spec.items() if key != "name"}


def _member(item: Any, at: str) -> Speaker:
    from portico._teams import Speaker

    if isinstance(item, str) and item:
        return Speaker(item, item)
    inner = Fields(item, at)
    person = inner.needed("human", "the name of a person; what is deployed is named by a text alone")
    limit = inner.number("limit", 86_400.0, least=0.01, most=604_800) or 86_400.0
    inner.done()
    return Speaker(person, limit=limit)


def _several(members: list[Speaker], least: int, at: str) -> None:
    names = [member.name for member in members]
    if len(names) < least or len(set(names)) < len(names):
        raise InvalidRequest(
            f"{at}: a team of this kind has at least {least} members, each with a name of its own.",
            code="invalid_spec",
            param=at,
        )


Composed = Callable[[], Any]
"""Makes the step, when all fields were read."""


def _sequence(_fields: Fields, members: list[Speaker]) -> Composed:
    from portico import _teams as shapes

    return lambda: shapes.sequence(members)


def _round_robin(fields: Fields, members: list[Speaker]) -> Composed:
    from portico import _teams as shapes

    rounds, final = fields.whole("rounds", 3, least=1, most=1000), fields.text("final")
    return lambda: shapes.round_robin(members, rounds, final)


def _moderator(fields: Fields, members: list[Speaker]) -> Composed:
    from portico import _teams as shapes

    boss, turns, final = _named(fields, "moderator"), _turns(fields), fields.text("final")
    return lambda: shapes.moderated(boss, members, turns, final)


def _decentralised(fields: Fields, members: list[Speaker]) -> Composed:
    from portico import _teams as shapes

    turns, final = _turns(fields), fields.text("final")
    people = [member.name for member in members if not member.deployed]
    if people:
        raise InvalidRequest(
            f"{fields.path('members')}: '{people[0]}' is a person, who cannot bid for each turn.",
            code="invalid_spec",
            param=fields.path("members"),
        )
    return lambda: shapes.bidding(members, turns, final)


def _debate(fields: Fields, members: list[Speaker]) -> Composed:
    from portico import _teams as shapes

    judge, rounds = _named(fields, "judge"), fields.whole("rounds", 2, least=1, most=100)
    return lambda: shapes.debate(members, judge, rounds)


def _hierarchical(fields: Fields, members: list[Speaker]) -> Composed:
    from portico import _teams as shapes

    manager, concurrency = _named(fields, "manager"), fields.whole("concurrency", 8, least=1, most=256)
    return lambda: shapes.hierarchy(manager, members, concurrency)


def _named(fields: Fields, key: str) -> Speaker:
    from portico._teams import Speaker

    name = fields.needed(key, "the name of what is deployed")
    return Speaker(name, name)


def _turns(fields: Fields) -> int:
    return fields.whole("turns", 12, least=1, most=1000)


_STEPS: Final[Mapping[str, Callable[[Fields, list[Speaker]], Composed]]] = {
    "sequence": _sequence,
    "round_robin": _round_robin,
    "moderator": _moderator,
    "decentralised": _decentralised,
    "debate": _debate,
    "hierarchical": _hierarchical,
}


OVER = ("title", "description", "durability", "timeout")
"""Fields of a flow that may stand beside it, and go before those in it."""


@dataclass(frozen=True, slots=True)
class AppEntry:
    """An app to be deployed. ``limits`` ``None``: those that it has stay."""

    name: str
    kind: str
    spec: Mapping[str, Any]
    limits: UsageLimits | None = None


def app_of(item: Mapping[str, Any], at: str, folder: Path) -> AppEntry:
    """An entry of ``apps``: a ``flow``, a ``team``, an ``agent``, or the ``file`` of a flow or agent in ``folder``.

    Raises `InvalidRequest` that names the place of what is wrong, but knows nothing of models, stores and tools.
    """
    fields = Fields(item, at)
    name = fields.text("name")
    flow, agent, file = fields.mapping("flow"), fields.mapping("agent"), fields.text("file")
    team = fields.mapping("team")
    over = {key: fields.raw(key) for key in OVER}
    limits = fields.mapping("limits")
    fields.done()
    if sum(1 for value in (flow, agent, file, team) if value) != 1:
        raise InvalidRequest(f"{at} needs one of 'flow', 'team', 'agent' and 'file'.", param=at)
    if team is not None:
        flow = flow_of(team, name, f"{at}.team")
    spec = dict(flow or agent or _document(file, folder, f"{at}.file"))
    if agent is not None or "portico_agent" in spec:
        return _checked(name, "agent", _versioned(spec, "portico_agent"), limits, at)
    spec = _versioned(spec, "portico_flow") | {key: value for key, value in over.items() if value is not None}
    return _checked(name, "flow", spec, limits, at)


def agent_of(item: Mapping[str, Any], at: str, folder: Path) -> AppEntry:
    """An entry of ``agents``: the agent itself, or a ``file`` that it is in."""
    spec = dict(item)
    file = spec.pop("file", None)
    if file is not None:
        if not isinstance(file, str) or set(spec) != {"name"}:
            raise InvalidRequest(f"{at}: only 'name' may stand beside 'file'.", param=f"{at}.file")
        spec = {**_document(file, folder, f"{at}.file"), **spec}
    return _checked(str(item.get("name")), "agent", _versioned(spec, "portico_agent"), None, at)


def _versioned(spec: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A specification that leaves its version out is of the first one."""
    return {key: 1, **spec}


def _checked(
    name: str, kind: str, spec: dict[str, Any], limits: Mapping[str, Any] | None, at: str
) -> AppEntry:
    check_name(name, "an app")
    try:
        if kind == "flow":
            flows.flow({**spec, "name": name})
        else:
            agents.agent({**spec, "name": name})
    except InvalidRequest as error:
        raise InvalidRequest(
            f"{at}: {error.message}", code=error.code, param=f"{at}.{error.param}" if error.param else at
        ) from error
    held = None if limits is None else UsageLimits.parse(limits, f"{at}.limits")
    return AppEntry(name, kind, {"name": name, **spec}, held)


def _document(file: str, folder: Path, at: str) -> dict[str, Any]:
    import yaml  # only who has a file pays for the parser

    path = (folder / Path(file).expanduser()).resolve()
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = json.loads(text) if path.suffix.lower() == ".json" else load(text)
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{at}: {path} is not valid YAML: {explain(error)}.", param=at) from error
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{at}: {path} cannot be read: {error}.", param=at) from error
    if not isinstance(found, dict):
        raise InvalidRequest(f"{at}: {path} holds no flow and no agent.", param=at)
    return found
