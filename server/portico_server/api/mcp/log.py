"""Log messages to clients that want them: ``logging/setLevel`` in sessions, a word in each request since 2026-07-28."""

from __future__ import annotations

from typing import Any, Final, get_args

import mcp_types as types
from mcp.server.connection import allowed_log_levels
from mcp.server.context import ServerRequestContext
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from portico_server.api.mcp.caller import connection_of

_LEVELS: Final[tuple[types.LoggingLevel, ...]] = get_args(types.LoggingLevel)
_KEY: Final = "portico.log"
_UNASKED: Final[types.LoggingLevel] = "warning"
"""The lowest level for a session that has set none."""


async def set_level(
    context: ServerRequestContext[Any], params: types.SetLevelRequestParams
) -> types.EmptyResult:
    """Handler of ``logging/setLevel``: from now on this session hears of that and worse."""
    connection_of(context).state[_KEY] = params.level
    return types.EmptyResult()


async def send_log(
    context: ServerRequestContext[Any], level: types.LoggingLevel, run: str, message: str
) -> None:
    """Send a message about a run along with the answer to this request, if the client wants such messages."""
    if not wants(context, level):
        return
    params = types.LoggingMessageNotificationParams(
        level=level, logger="portico", data={"run": run, "message": message}
    )
    await context.session.send_notification(
        types.LoggingMessageNotification(params=params), related_request_id=context.request_id
    )


def wants(context: ServerRequestContext[Any], level: types.LoggingLevel) -> bool:
    """Whether the client of this request hears of messages of a level, and so of all that are worse."""
    if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return level in allowed_log_levels(context.protocol_version, context.meta)
    lowest = connection_of(context).state.get(_KEY, _UNASKED)
    return _LEVELS.index(level) >= _LEVELS.index(lowest)
