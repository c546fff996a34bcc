"""A provider whose API is older than OpenAI's."""

from __future__ import annotations

from portico_server.models.engines.openai_client.quirks import Quirks
from portico_server.models.engines.remote.providers import ModelProvider

PORTICO_PLUGIN_API = 1

PIER = ModelProvider(
    "https://api.pier.example/v1",
    key="PIER_API_KEY",
    address="PIER_BASE_URL",
    quirks=Quirks(renamed={"max_completion_tokens": "max_tokens"}, developer=False),
)
