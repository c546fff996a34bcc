"""``POST /v1/realtime/client_secrets``: create the secret with which a browser opens a Realtime session.

Source: https://platform.openai.com/docs/api-reference/realtime-sessions/create-realtime-client-secret.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import BaseModel, Field

from portico_server.api.auth.client_secrets import LIFE_S, MAX_LIFE_S, MIN_LIFE_S, minted
from portico_server.api.auth.service import Auth
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.exchange import Exchange
from portico_server.features.realtime import config
from portico_server.features.realtime.api.realtime import require_model
from portico_server.features.realtime.audio import Voices

router = new_router(tags=["Models"])


class SecretLife(BaseModel):
    """How long a secret can open sessions, in seconds from now."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Field(ge=MIN_LIFE_S, le=MAX_LIFE_S)] = LIFE_S


class ClientSecretRequest(BaseModel):
    """``session`` as in ``session.update``, by default of the type ``realtime``.

    A session of this type needs ``model`` if the caller has several chat models.
    """

    session: dict[str, Any] = {"type": config.REALTIME}
    expires_after: SecretLife = SecretLife()


class ClientSecret(BaseModel):
    """``value`` is the secret; it opens sessions until ``expires_at``, in seconds since 1970."""

    value: str
    expires_at: int
    session: dict[str, Any]


@router.post("/v1/realtime/client_secrets")
async def create_client_secret(
    body: ClientSecretRequest, request: Request, services: TheServices, caller: Caller
) -> ClientSecret:
    """Create a client secret for a Realtime session."""
    config.require(body.session)
    if body.session["type"] == config.TRANSCRIPTION:
        model_name = config.transcription_of(body.session).get("model")
        voices = Voices(services.registry, services.runner, caller)
        await voices.able("transcription", model_name, "session.audio.input.transcription.model")
        new_session = config.opened_to_write()
    else:
        model = body.session.get("model")
        if model is None:
            model = await services.registry.only_model("chat", caller, "session.model")
            body.session["model"] = model
        with config.inside("session"):
            await require_model(services, model, caller)
        new_session = config.initial_config(model)
    session = config.updated(new_session, body.session)
    auth: Auth = request.scope["portico.auth"]
    exchange: Exchange = request.scope["portico.exchange"]
    life_s = body.expires_after.seconds
    value, expires_at = minted(auth, caller, body.session, life_s, exchange.expires_at)
    return ClientSecret(value=value, expires_at=expires_at, session=session)
