"""Comparison of a canary's answers with the baseline's answers to the same calls."""

from __future__ import annotations

from collections.abc import Callable

from portico_server.core.errors import EngineFailed
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.relay import Relay
from portico_server.core.servable import relays
from portico_server.db.canaries import CanaryRow
from portico_server.features.canaries.agreement import agreement
from portico_server.features.canaries.samples import LiveSample, relayed_answer
from portico_server.runs.run import BEHIND
from portico_server.runs.runner import Runner

COMPARISON_RUN_KIND = "canary_comparison"


class BaselineComparison:
    """Asks the baseline what a canary has answered. The calls are charged to the key that set the canary."""

    def __init__(self, registry: Registry, runner: Runner) -> None:
        self._registry = registry
        self._runner = runner
        self.principals: Callable[[str], Principal]
        """Returns the caller with an id."""

    async def compare(self, row: CanaryRow, sample: LiveSample) -> float:
        """Return the agreement of the canary's answer with the baseline's, from 0 to 1. Raises `PorticoError`."""
        BEHIND.set(True)
        caller = self.principals(row.key)
        baseline = await self._registry.resolve(row.baseline, caller)
        if not relays(baseline):
            raise EngineFailed(f"'{row.baseline}' is not a model, so its answers cannot be compared.")
        request = Relay("chat/completions", {**sample.body, "model": row.baseline, "stream": False})
        response = await self._runner.relay(baseline, row.alias, request, caller, kind=COMPARISON_RUN_KIND)
        data = await response.read()
        answer = relayed_answer(data, stream=False)
        if answer is None:
            raise EngineFailed(f"'{row.baseline}' did not return a valid answer.")
        return agreement(sample.sample["output_text"], answer["output_text"])
