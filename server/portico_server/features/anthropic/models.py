"""``GET /v1/models`` for clients that send ``anthropic-version``: list the models and apps that answer Messages
requests, in Anthropic's format.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.routing import Match
from starlette.types import Scope

from portico_server.api.endpoint import Caller, TheServices
from portico_server.api.openai import models
from portico_server.api.openai.models import Model
from portico_server.api.parsed_route import ParsedRoute
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.features.anthropic.errors import is_versioned
from portico_server.features.anthropic.pages import AnthropicPage

MAX_MODELS = 1_000


class Versioned(ParsedRoute):
    """A route for requests with the ``anthropic-version`` header. Other requests continue to the next route with the
    same path.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if is_versioned(scope) else (Match.NONE, {})


router = APIRouter(prefix="/v1/models", route_class=Versioned, include_in_schema=False)


def _supported(is_supported: bool, **details: Any) -> dict[str, Any]:
    return {"supported": is_supported, **details}


def _capabilities(model: Model) -> dict[str, Any]:
    """Return what requests of the Messages API can use. A model of Anthropic receives every request unchanged."""
    original = "messages" in model.capabilities
    reasons = _supported(original or bool(model.reasoning))
    efforts = dict.fromkeys(("low", "medium", "high", "max"), reasons)
    yes, no = _supported(True), _supported(False)
    thinking_types = {"adaptive": reasons, "between_tools": no, "disabled": yes, "enabled": reasons}
    server_tools = {"web_search": _supported(original), "code_execution": _supported(original)}
    return {
        "batch": yes,
        "citations": _supported(original or "store" in model.labels),
        "code_execution": _supported(original),
        "context_management": _supported(original),
        "effort": reasons | efforts,
        "image_input": _supported(original or "image" in model.modalities.input),
        "pdf_input": yes,
        "server_tools": _supported(original, **server_tools),
        "structured_outputs": yes,
        "thinking": reasons | {"types": thinking_types},
    }


class ModelInfo(BaseModel):
    """A model, app or alias that the ``model`` field accepts. ``max_input_tokens`` is the limit of one call, including
    its answer.
    """

    type: Literal["model"] = "model"
    id: str
    display_name: str
    created_at: datetime
    lifecycle: Literal["active"] = "active"
    max_input_tokens: int | None = None
    max_tokens: int | None = None
    capabilities: dict[str, Any]


@router.get("")
async def list_message_models(
    services: TheServices,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=MAX_MODELS)] = 20,
    after_id: str | None = None,
    before_id: str | None = None,
) -> AnthropicPage[ModelInfo]:
    """List the chat models, chat apps and their aliases."""
    all_models = (await models.list_models(services, caller)).data
    found_model_infos = [_info(model) for model in all_models if "chat" in model.capabilities]
    names = [info.id for info in found_model_infos]
    if after_id is not None:
        found_model_infos = found_model_infos[_place(names, after_id, "after_id") + 1 :]
    if before_id is not None:
        found_model_infos = found_model_infos[: _place(names, before_id, "before_id")]
        model_infos = found_model_infos[-limit:]
    else:
        model_infos = found_model_infos[:limit]
    return AnthropicPage.of(model_infos, has_more=len(model_infos) < len(found_model_infos))


@router.get("/{name:path}")
async def retrieve_message_model(name: str, services: TheServices, caller: Caller) -> ModelInfo:
    """Return a chat model or chat app."""
    model = await models.retrieve_model(name, services, caller)
    if "chat" not in model.capabilities:
        raise NotFound(f"'{name}' is not a chat model.", code="model_not_found", param="model")
    return _info(model)


def _place(names: list[str], name: str, param: str) -> int:
    if name not in names:
        raise InvalidRequest(f"'{param}' is '{name}', which is not in the list of models.", param=param)
    return names.index(name)


def _info(model: Model) -> ModelInfo:
    return ModelInfo(
        id=model.id,
        display_name=model.title or model.id,
        created_at=datetime.fromtimestamp(model.created, UTC),
        max_input_tokens=model.context_length,
        max_tokens=model.max_output_tokens,
        capabilities=_capabilities(model),
    )
