"""The tools that run code, and the processes behind them."""

from __future__ import annotations

from portico_server.core.interfaces import Fetcher
from portico_server.core.registry import Registry
from portico_server.runs.artifacts import ArtifactStore
from portico_server.settings import Settings
from portico_server.tools.builtin import calculator, code_interpreter, draw, python_light, speak, transcribe
from portico_server.tools.builtin.draw import PictureFiles
from portico_server.tools.sandbox.environment import Environment
from portico_server.tools.sandbox.light import LightSandbox
from portico_server.tools.sandbox.local import LocalSandbox
from portico_server.tools.sandbox.notebooks import Notebooks
from portico_server.tools.sandbox.protocol import MB, SandboxLimits
from portico_server.tools.tool import Tool


class CodeTools:
    """``python_light``, ``calculator`` and ``code_interpreter``. No process runs before the first call."""

    def __init__(self, settings: Settings, artifacts: ArtifactStore) -> None:
        limits = SandboxLimits(seconds=settings.notebook_timeout, memory=settings.notebook_memory_mb * MB)
        environment = Environment(settings.environments, index=settings.pypi_index, offline=settings.offline)
        self.light = LightSandbox()
        self._notebooks = Notebooks(
            LocalSandbox(environment),
            limits,
            most=settings.notebooks,
            idle=settings.notebook_idle,
        )
        self.tools: tuple[Tool, ...] = (
            calculator.tool(self.light),
            code_interpreter.tool(self._notebooks, artifacts, limits),
            python_light.tool(self.light),
        )

    async def close(self) -> None:
        """End every interpreter and every kernel."""
        await self.light.close()
        await self._notebooks.close()


# The tools that work with models for pictures and sounds.


def media_tools(
    registry: Registry, artifacts: ArtifactStore, files: PictureFiles, fetcher: Fetcher
) -> tuple[Tool, ...]:
    """What they make is kept in ``artifacts``; ``files`` are what clients uploaded and runs made."""
    return (
        draw.tool(registry, artifacts, files, fetcher),
        speak.tool(registry, artifacts),
        transcribe.tool(registry, files),
    )
