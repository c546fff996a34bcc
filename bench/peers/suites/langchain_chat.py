"""LangChain's standard tests of chat models, unchanged, with four of its clients: `scripts/peer-suites` runs them."""

from __future__ import annotations

import os
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

URL = os.environ["PORTICO_URL"]


class _Scripted(ChatModelIntegrationTests):
    """The tests with the scripted model, which sees no images."""

    supports_image_inputs = False


class TestChat(_Scripted):
    """``/v1/chat/completions`` with OpenAI's client."""

    chat_model_class = ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "scripted", "api_key": "none", "base_url": f"{URL}/v1", "stream_usage": True}


class TestResponses(TestChat):
    """``/v1/responses`` with OpenAI's client."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "use_responses_api": True}


class TestAnthropic(_Scripted):
    """``/v1/messages`` with Anthropic's client."""

    chat_model_class = ChatAnthropic

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "scripted", "api_key": "none", "base_url": URL, "max_tokens": 256}


class TestOllama(_Scripted):
    """``/api/chat`` with Ollama's client. Ollama's API has no tool choice."""

    chat_model_class = ChatOllama
    has_tool_choice = False

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "scripted", "base_url": URL}
