"""``/api/improvements``: which part of an app fails, and which change helps."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, Field

from portico.schemas import improvements
from portico.schemas.improvements import AppliedProposal
from portico_server.api.endpoint import Admin, Caller, TheServices, new_router
from portico_server.api.native.sessions import RatedAnswer
from portico_server.api.openai.eval_shapes import EvalError
from portico_server.api.services import ApiServices
from portico_server.api.shapes import Listed, Moment, shaped
from portico_server.canaries.spec import MAX_NAME_CHARS, parse
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict
from portico_server.core.principal import Principal
from portico_server.db.eval_searches import EvalSearchRow

router = new_router(prefix="/api/improvements", tags=["Evals"])

MAX_CASES = 5_000
"""Maximum number of cases of an improvement."""

MAX_RATINGS = 1_000
"""Maximum number of corrected answers that become cases."""

DEFAULT_WEIGHT = 0.1
"""The share of calls that an applied proposal gets."""

Name = Annotated[str, Field(max_length=MAX_NAME_CHARS)]


class NewImprovement(BaseModel, extra="forbid"):
    """An app to improve, and its cases.

    A case has a ``question`` and the expected ``answer``. ``passages`` are the texts that contain the answer, and
    ``tool`` is the right tool call, with a ``name`` and ``arguments``. The caller's corrections of answers of the app
    are cases too, unless ``ratings`` is false.

    ``eval`` is an evaluation, by its name or id, whose criteria grade the answers; by default an answer passes if it
    contains the expected answer. ``model`` is another model to try.
    """

    app: Name
    data: Annotated[list[dict[str, Any]], Field(max_length=MAX_CASES)] = Field(default_factory=list)
    eval: Name = ""
    model: Name = ""
    ratings: bool = True


class ProposalChoice(BaseModel, extra="forbid"):
    """The number of the proposal to apply, the alias of the app's version, and the share of calls that the changed
    version gets. ``alias`` can be omitted if the app's version has one alias.
    """

    proposal: Annotated[int, Field(ge=1)]
    alias: Name = ""
    weight: Annotated[float, Field(gt=0, le=1)] = DEFAULT_WEIGHT


@dataclass(frozen=True, slots=True)
class ImprovementDescription(improvements.Improvement):
    """An improvement of ``version`` of an ``app``. Of its ``cases``, the app answers ``bad`` badly; ``diagnosed`` of
    these were used to name the ``part`` that fails, the others and all good cases are ``held_back``.

    ``baseline`` are the figures of the held-back cases without a change. ``run_id`` is the durable run with the events.
    """

    created_at: Moment
    finished_at: Moment | None
    error: EvalError | None  # type: ignore[assignment]  # the SDK has its message


@router.post("", status_code=201)
async def create_improvement(
    body: NewImprovement, services: TheServices, caller: Caller
) -> ImprovementDescription:
    """Find the part of an app that fails, and measure changes of it on held-back cases. Nothing is applied."""
    corrections = await _corrections(services, body.app, caller) if body.ratings else {}
    questions = {case.get("question") for case in body.data}
    corrected = [
        {"question": question, "answer": answer}
        for question, answer in corrections.items()
        if question not in questions
    ]
    row = await services.improvements.create(
        body.app, [*body.data, *corrected], body.eval, body.model, caller
    )
    return _improvement(row)


@router.get("")
async def list_improvements(
    services: TheServices,
    caller: Caller,
    app: Annotated[str | None, Query(description="Only improvements of this app.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Listed[ImprovementDescription]:
    """List improvements, newest first."""
    return Listed(data=[_improvement(row) for row in await services.improvements.list(app, caller, limit)])


@router.get("/{improvement_id}")
async def retrieve_improvement(
    improvement_id: str, services: TheServices, caller: Caller
) -> ImprovementDescription:
    """Return an improvement with its diagnosis and its proposals."""
    return _improvement(await services.improvements.get(improvement_id, caller))


@router.post("/{improvement_id}/apply")
async def apply_proposal(
    improvement_id: str, choice: ProposalChoice, services: TheServices, caller: Admin
) -> AppliedProposal:
    """Make the app with a proposal the canary of an alias. Only measured proposals that improve the held-back cases can
    be applied.
    """
    row = await services.improvements.get(improvement_id, caller)
    proposal = await services.improvements.offer(improvement_id, choice.proposal, caller)
    alias = choice.alias or _alias(services, f"{row.name}@{row.spec['version']}")
    version = await services.improvements.stage(row, proposal, caller)
    spec = parse({"target": f"{row.name}@{version}", "weight": choice.weight})
    view = await services.canaries.set(alias, spec, caller)
    return AppliedProposal(alias, view.row.target, spec.weight)


def _alias(services: ApiServices, target: str) -> str:
    """Return the only alias of a version of an app. Raises `Conflict`."""
    aliases = [alias for alias, alias_target in services.registry.aliases.items() if alias_target == target]
    if len(aliases) == 1:
        return aliases[0]
    if aliases:
        raise Conflict(
            f"'{target}' has several aliases: {', '.join(sorted(aliases))}. Name one of them.",
            code="ambiguous_name",
            param="alias",
        )
    raise Conflict(
        f"'{target}' has no alias, and a canary splits the calls of an alias. Create it: portico models alias NAME "
        f"{target}.",
        code="alias_needed",
        param="alias",
    )


async def _corrections(services: ApiServices, app: str, caller: Principal) -> dict[str, str]:
    """Return the caller's corrections of answers of an app, by their questions. Corrections of later answers of a
    conversation are left out, because their questions depend on the conversation.
    """
    page = await services.agents.sessions.ratings(caller, app=app, value="corrected", limit=MAX_RATINGS)
    corrections = {}
    for answer in (RatedAnswer.of(row) for row in page.data):
        questions = [message.content for message in answer.messages if message.role == "user"]
        if len(questions) == 1 and isinstance(questions[0], str):
            corrections[questions[0]] = answer.correction
    return corrections


def _improvement(row: EvalSearchRow) -> ImprovementDescription:
    state = row.state
    return shaped(
        ImprovementDescription,
        row,
        app=row.name,
        version=row.spec["version"],
        cases=row.total,
        bad=state.get("bad"),
        diagnosed=state.get("diagnosed"),
        held_back=state.get("held_back"),
        part=state.get("part"),
        diagnosis=state.get("diagnosis") or (),
        baseline=state.get("baseline"),
        proposals=state.get("proposals") or (),
    )
