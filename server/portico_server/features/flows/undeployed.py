"""Flows of recordings that are replayed without being deployed."""

from __future__ import annotations

from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.request import AppInput, AppOutput, Request
from portico_server.features.flows.app import FlowApp


class UndeployedFlow(FlowApp):
    """A flow whose client functions the recording answers, instead of workers."""

    async def call(self, request: Request, context: Context) -> AppOutput:
        if not isinstance(request, AppInput):
            raise InvalidRequest(
                "A recorded run of an undeployed flow must have an input.", param="recording"
            )
        execution = self._executions.execution(self.flow, context, answered_functions=None)
        return AppOutput(await execution.run(request.value), execution.usage, execution.citations)
