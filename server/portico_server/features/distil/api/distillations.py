"""``/api/distillations``: small models that learn the answers behind an alias."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from portico.schemas.distillations import Distillation
from portico_server.api.endpoint import Admin, feature_service, new_router
from portico_server.api.shapes import StartedRun
from portico_server.features.canaries.spec import MAX_NAME_CHARS
from portico_server.features.canaries.verdict import rate
from portico_server.features.distil.distillations import Distillations, DistillationView
from portico_server.features.distil.work import DATA, JUDGING, STAGES, TRAINING, DistillationSpec
from portico_server.features.training.spec import Hyperparameters

router = new_router(prefix="/api/distillations", tags=["Distillations"])

TheDistillations = Annotated[Distillations, feature_service("distil", Distillations)]

MAX_EPOCHS = 100


class DistillationRequest(BaseModel, extra="forbid"):
    """A distillation to start. ``onto`` is the small model to tune, for ``epochs`` passes, with the recipe's learning
    rate times ``rate``.

    ``agreement`` is the minimum agreement of its answers with the stored answers, where it is sure. The result gets the
    share ``weight`` of the calls until it is promoted, and the share ``sample`` of its live answers is compared with
    the answers of the current target.
    """

    onto: Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
    agreement: Annotated[float, Field(gt=0, le=1)] = 0.95
    weight: Annotated[float, Field(gt=0, le=1)] = 0.2
    sample: Annotated[float, Field(gt=0, le=1)] = 0.05
    epochs: Annotated[int | None, Field(ge=1, le=MAX_EPOCHS)] = None
    rate: Annotated[float | None, Field(gt=0, le=1000)] = None


@router.post("/{alias}", status_code=202)
async def start_distillation(
    alias: str, body: DistillationRequest, distillations: TheDistillations, caller: Admin
) -> StartedRun:
    """Tune a small model with the stored chats of an alias, compare it with the stored answers that are held back, and
    put it behind the alias as a canary. Return the id of the durable run that does this.
    """
    spec = DistillationSpec(
        body.onto,
        body.agreement,
        body.weight,
        body.sample,
        Hyperparameters(n_epochs=body.epochs, learning_rate_multiplier=body.rate),
    )
    return StartedRun(run=await distillations.start(alias, spec, caller))


@router.get("/{alias}")
async def retrieve_distillation(alias: str, distillations: TheDistillations, caller: Admin) -> Distillation:
    """Return the newest distillation of an alias, and what it has saved."""
    return _distillation(await distillations.get(alias, caller))


def _distillation(view: DistillationView) -> Distillation:
    run, stages = view.run, view.stages
    data, training, judging = (stages.get(stage, {}) for stage in (DATA, TRAINING, JUDGING))
    return Distillation(
        alias=run.name,
        onto=str(run.payload["onto"]),
        run=run.id,
        status=run.status,
        error=None if run.error is None else str(run.error.get("message") or ""),
        stage=next((stage for stage in reversed(STAGES) if stage in stages), None),
        training=data.get("training"),
        held_back=data.get("held_back"),
        omitted=data.get("omitted"),
        job=training.get("job"),
        model=training.get("model"),
        min_confidence=judging.get("min_confidence"),
        local_share=judging.get("local_share"),
        agreement=judging.get("agreement"),
        **_canary(view),
    )


def _canary(view: DistillationView) -> dict[str, Any]:
    canary, savings = view.canary, view.savings
    if canary is None or savings is None:
        return {
            **dict.fromkeys(("canary", "live_agreement", "saved_cost", "saved_seconds")),
            "calls": 0,
            "local_calls": 0,
        }
    milliseconds = savings.milliseconds
    return {
        "canary": canary.row.outcome or ("promoted" if canary.row.spec.get("is_widened") else "running"),
        "live_agreement": rate(canary.counts.canary.score, canary.counts.canary.samples),
        "calls": savings.calls,
        "local_calls": savings.local_calls,
        "saved_cost": savings.cost,
        "saved_seconds": None if milliseconds is None else milliseconds / 1e3,
    }
