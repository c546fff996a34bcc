"""A provider whose API predates OpenAI's."""

from __future__ import annotations

from portico.plugin import ModelProvider, Quirks

PORTICO_PLUGIN_API = 1

PIER = ModelProvider(
    "https://api.pier.example/v1",
    key="PIER_API_KEY",
    address="PIER_BASE_URL",
    quirks=Quirks(renamed={"max_completion_tokens": "max_tokens"}, developer=False),
)
