"""Which scope an endpoint asks for, as the type of its ``caller`` parameter."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from portico_server.api.depends import Caller
from portico_server.core.principal import Principal


def _admin(caller: Caller) -> Principal:
    caller.require("admin")
    return caller


def _models(caller: Caller) -> Principal:
    caller.require("models:read")
    return caller


Admin = Annotated[Principal, Depends(_admin)]
"""A caller with the scope ``admin``."""

ModelsReader = Annotated[Principal, Depends(_models)]
"""A caller with the scope ``models:read``."""
