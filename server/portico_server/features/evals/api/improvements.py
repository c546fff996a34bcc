"""``/api/improvements``: which part of an app fails, and which change helps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, Field

from portico.schemas import improvements
from portico.schemas.improvements import AppliedProposal
from portico_server.api.endpoint import Admin, Caller, TheServices, new_router
from portico_server.api.services import ApiServices
from portico_server.api.shapes import Listed, Moment, shaped
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict
from portico_server.core.principal import Principal
from portico_server.core.request import AppInput, Chat
from portico_server.db.eval_searches import EvalSearchRow
from portico_server.features.agents.api.sessions import RatedAnswer
from portico_server.features.agents.sessions import RatingValue
from portico_server.features.canaries.spec import MAX_NAME_CHARS, parse
from portico_server.features.evals.api.eval_shapes import EvalError
from portico_server.features.evals.api.evals import TheEvaluations

router = new_router(prefix="/api/improvements", tags=["Evals"])

MAX_CASES = 5_000
"""Maximum number of cases of an improvement."""

MAX_RATINGS = 1_000
"""Maximum number of answers of each rating that become cases."""

DEFAULT_WEIGHT = 0.1
"""The share of calls that an applied proposal gets."""

Name = Annotated[str, Field(max_length=MAX_NAME_CHARS)]


class NewImprovement(BaseModel, extra="forbid"):
    """An app to improve, and its cases.

    A case has a ``question`` and the expected ``answer``. ``passages`` are the texts that contain the answer, and
    ``tool`` is the right tool call, with a ``name`` and ``arguments``. Unless ``ratings`` is false, the caller's
    corrections of the app's answers are cases too. Answers rated ``bad`` and recent runs that failed are cases without
    an expected answer; they need an ``eval`` whose criteria use only the question.

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
    body: NewImprovement, services: TheServices, evaluations: TheEvaluations, caller: Caller
) -> ImprovementDescription:
    """Find the part of an app that fails, and measure changes of it on held-back cases. Nothing is applied."""
    cases_from_use = await _cases_from_use(services, body.app, caller) if body.ratings else []
    row = await evaluations.improvements.create(
        body.app, body.data, cases_from_use, body.eval, body.model, caller
    )
    return _improvement(row)


@router.get("")
async def list_improvements(
    evaluations: TheEvaluations,
    caller: Caller,
    app: Annotated[str | None, Query(description="Only improvements of this app.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Listed[ImprovementDescription]:
    """List improvements, newest first."""
    return Listed(data=[_improvement(row) for row in await evaluations.improvements.list(app, caller, limit)])


@router.get("/{improvement_id}")
async def retrieve_improvement(
    improvement_id: str, evaluations: TheEvaluations, caller: Caller
) -> ImprovementDescription:
    """Return an improvement with its diagnosis and its proposals."""
    return _improvement(await evaluations.improvements.get(improvement_id, caller))


@router.post("/{improvement_id}/apply")
async def apply_proposal(
    improvement_id: str,
    choice: ProposalChoice,
    services: TheServices,
    evaluations: TheEvaluations,
    caller: Admin,
) -> AppliedProposal:
    """Make the app with a proposal the canary of an alias. Only measured proposals that improve the held-back cases can
    be applied.
    """
    row = await evaluations.improvements.get(improvement_id, caller)
    proposal = await evaluations.improvements.offer(improvement_id, choice.proposal, caller)
    alias = choice.alias or _alias(services, f"{row.name}@{row.spec['version']}")
    version = await evaluations.improvements.stage(row, proposal, caller)
    spec = parse({"target": f"{row.name}@{version}", "weight": choice.weight})
    canaries = await services.features.load("canaries")
    view = await canaries.set(alias, spec, caller)
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


async def _cases_from_use(services: ApiServices, app: str, caller: Principal) -> list[dict[str, Any]]:
    """Return the caller's corrected answers of an app as cases, then the bad answers and failed runs, which have only a
    question.
    """
    corrections = await _ratings(services, app, "corrected", caller)
    bad_ratings = await _ratings(services, app, "bad", caller)
    questions = [*bad_ratings, *_failed_questions(services, app, caller)]
    return [
        *({"question": question, "answer": answer} for question, answer in corrections.items()),
        *({"question": question} for question in questions),
    ]


async def _ratings(services: ApiServices, app: str, value: RatingValue, caller: Principal) -> dict[str, str]:
    """Return the questions whose answers the caller rated with ``value``, and the corrections. Later answers of a
    conversation are left out, because their questions depend on the conversation.
    """
    agents = await services.features.load("agents")
    page = await agents.sessions.ratings(caller, app=app, value=value, limit=MAX_RATINGS)
    corrections = {}
    for answer in (RatedAnswer.of(row) for row in page.data):
        question = _only_question([message.model_dump() for message in answer.messages])
        if question:
            corrections[question] = answer.correction
    return corrections


def _failed_questions(services: ApiServices, app: str, caller: Principal) -> list[str]:
    """Return the questions of the caller's recent runs of an app that failed, or that a guard stopped."""
    questions = []
    for run in services.runner.list():
        recording = run.recording
        if run.status != "failed" or run.caller.id != caller.id or recording is None:
            continue
        if recording.app.name == app and isinstance(recording.request, Chat):
            questions.append(_only_question(recording.request.messages))
        elif recording.app.name == app and isinstance(recording.request, AppInput):
            value = recording.request.value
            questions.append(value if isinstance(value, str) else "")
    return [question for question in questions if question]


def _only_question(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the user's text if a conversation has only one message of the user, else an empty text."""
    contents = [message.get("content") for message in messages if message.get("role") == "user"]
    return contents[0] if len(contents) == 1 and isinstance(contents[0], str) else ""


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
