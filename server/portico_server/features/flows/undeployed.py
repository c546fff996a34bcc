"""Flows of recordings that are replayed without being deployed."""

from __future__ import annotations

from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.request import AppInput, AppOutput, Request
from portico_server.features.flows.app import FlowApp
from portico_server.features.flows.flows import Flows
from portico_server.features.flows.spec import FlowSpec


class UndeployedFlow(FlowApp):
    """A flow whose client functions the recording answers, instead of workers."""

    def __init__(self, flow: FlowSpec, flows: Flows) -> None:
        super().__init__(flow, flows)
        self._flows = flows

    async def call(self, request: Request, context: Context) -> AppOutput:
        if not isinstance(request, AppInput):
            raise InvalidRequest(
                "A recorded run of an undeployed flow must have an input.", param="recording"
            )
        execution = self._flows.execution(self.flow, context, answered_functions=None)
        return AppOutput(await execution.run(request.value), execution.usage, execution.citations)
