"""Helpers that write and run steps as JSON."""

from __future__ import annotations

from typing import Any

from tests.server.features.flows.outside import Outside

from portico import Client


class Bench:
    """Runs single steps and keeps the result of the last run."""

    def __init__(self, client: Client, outside: Outside) -> None:
        self.client = client
        self.outside = outside
        self.run_id = ""

    def __call__(self, step: Any, value: Any = None, **more: Any) -> Any:
        """Return the output of a flow of one step."""
        running = self.client.start(spec(step, **more), value)
        try:
            return running.result()
        finally:
            self.run_id = running.id or ""

    def trace(self) -> dict[str, Any]:
        """Return the steps of the last run by path."""
        return {step.path: step for step in self.client.runs.trace(self.run_id, full=True)}


def spec(step: Any, **more: Any) -> dict[str, Any]:
    """Return a flow of one step."""
    return {"portico_flow": 1, "name": "t", "step": step, **more}


def code(source: str, name: str = "", **more: Any) -> dict[str, Any]:
    """Return a step that is a function."""
    return {"op": "code", "source": source, **({"name": name} if name else {}), **more}


def pipeline(*steps: Any, **more: Any) -> dict[str, Any]:
    return {"op": "pipeline", "name": "p", "steps": list(steps), **more}


def ref(text: str, **more: Any) -> dict[str, Any]:
    return {"$ref": text, **more}
