"""``POST /v1/moderations``: classify whether texts and images are harmful, in OpenAI's format.

Source: https://developers.openai.com/api/reference/resources/moderations.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.core.ids import new_id
from portico_server.features.guards.moderation import MAX_INPUTS, moderate

router = new_router(tags=["Models"])


class ModerationRequest(BaseModel):
    """A text, several texts that get one result each, or parts (``text``, ``image_url``) that get a single result
    together.
    """

    input: str | Annotated[list[str | dict[str, Any]], Field(min_length=1, max_length=MAX_INPUTS)]
    model: str | None = None


class ModerationResult(BaseModel):
    """The result for one input, by category; scores are in [0, 1]. ``category_applied_input_types`` lists the input
    types that were judged for each category.
    """

    flagged: bool
    categories: dict[str, bool | None]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]] = {}


class Moderation(BaseModel):
    """A moderation with one result per input."""

    id: str
    model: str
    results: list[ModerationResult]


@router.post("/v1/moderations")
async def create_moderation(body: ModerationRequest, services: TheServices, caller: Caller) -> Moderation:
    """Classify texts and images by moderation category."""
    moderation = await moderate(services.runner, services.registry, body.model, body.input, caller)
    return Moderation(
        id=new_id("modr-"),
        model=moderation.model,
        results=[ModerationResult.model_validate(result) for result in moderation.results],
    )
