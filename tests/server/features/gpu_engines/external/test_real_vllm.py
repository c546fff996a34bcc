"""vLLM itself, if an interpreter has it: ``PORTICO_TEST_VLLM`` is its path (a CPU build suffices).

The model is tiny, with random weights that the test creates with that interpreter's own transformers.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.server.models.adapters import peft_files

from portico.testing.model_fixture import model_fixture, user
from portico_server.core.errors import PorticoError
from portico_server.models.spec import ModelSpec

PYTHON = os.environ.get("PORTICO_TEST_VLLM", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PYTHON, reason="PORTICO_TEST_VLLM names no interpreter that has vLLM"),
]

COMPACT = '{"backend": "xgrammar", "disable_any_whitespace": true}'
SMALL = {
    "context_length": 512,
    "dtype": "float32",
    "eager": True,
    "memory_share": 0.2,
    "arguments": ["--structured-outputs-config", COMPACT],
}
"""Parameters of a small model. Without a GPU, the share is that of the machine's memory.

Random weights would write white space forever if allowed.
"""

MAKE = """
import sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder = sys.argv[1]
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
words = {word: number for number, word in enumerate(["<s>", "</s>", *alphabet])}
tokenizer = Tokenizer(models.BPE(vocab=words, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
fast.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\\n{% endfor %}assistant: "
fast.save_pretrained(folder)
config = LlamaConfig(
    vocab_size=len(words), hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, head_dim=64, max_position_embeddings=1024, bos_token_id=0, eos_token_id=1,
)
LlamaForCausalLM(config).save_pretrained(folder, safe_serialization=True)
"""


async def test_a_real_vllm_answers_streams_and_calls_tools(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    await asyncio.to_thread(subprocess.run, [PYTHON, "-c", MAKE, str(folder)], check=True)
    async with model_fixture(tmp_path, load_timeout=400.0) as daemon:
        parameters = {**SMALL, "python": PYTHON}
        await daemon.models.add(ModelSpec("m", str(folder), engine="vllm", parameters=parameters))
        await daemon.models.load("m")  # takes longer than a call may take
        response = await daemon.ask("m", {"messages": user("hi"), "max_tokens": 4})
        assert response["usage"]["completion_tokens"] == 4 and response["model"] == "m"
        assert daemon.models.get("m").context_length == 512
        streamed = await daemon.stream("m", {"messages": user("hi"), "max_tokens": 4})
        assert streamed.done and streamed.usage.completion_tokens == 4
        schema = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
        tool = {"type": "function", "function": {"name": "light", "parameters": schema}}
        for choice in ("required", {"type": "function", "function": {"name": "light"}}):
            body = {"messages": user("hi"), "tools": [tool], "tool_choice": choice, "max_tokens": 64}
            [answer] = (await daemon.ask("m", body))["choices"]
            [call] = answer["message"]["tool_calls"]
            assert isinstance(json.loads(call["function"]["arguments"])["on"], bool)
        with pytest.raises(PorticoError) as error_info:
            await daemon.relay("m", {"messages": user("word " * 900)})
        assert (error_info.value.status, error_info.value.code) == (400, "context_length_exceeded")
        with pytest.raises(PorticoError, match="tool_call_parser"):
            await daemon.relay("m", {"messages": user("hi"), "tools": [tool]})


async def test_vllm_embeds(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    await asyncio.to_thread(subprocess.run, [PYTHON, "-c", MAKE, str(folder)], check=True)
    async with model_fixture(tmp_path, load_timeout=400.0) as daemon:
        parameters = {**SMALL, "python": PYTHON}
        await daemon.models.add(
            ModelSpec("e", str(folder), engine="vllm", task="embedding", parameters=parameters)
        )
        await daemon.models.load("e")
        info = daemon.models.get("e")
        assert (info.task, info.dimensions) == ("embedding", 128)
        answer = await daemon.ask("e", {"input": ["one", "two", "one"]}, "embeddings")
        first, second, again = (row["embedding"] for row in answer["data"])
        assert len(first) == 128 and sum(x * x for x in first) == pytest.approx(1, abs=1e-3)
        assert first == pytest.approx(again, abs=1e-4) and first != pytest.approx(second, abs=1e-4)
        with pytest.raises(PorticoError) as error_info:
            await daemon.relay("e", {"input": "word " * 900}, "embeddings")
        assert (error_info.value.status, error_info.value.code) == (400, "context_length_exceeded")


async def test_vllm_takes_adapters_while_it_runs(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    await asyncio.to_thread(subprocess.run, [PYTHON, "-c", MAKE, str(folder)], check=True)
    layers = {f"self_attn.{part}_proj": (128, 128) for part in "qkvo"}
    async with model_fixture(tmp_path, load_timeout=400.0) as daemon:
        parameters = {**SMALL, "python": PYTHON, "adapter_rank": 16}
        await daemon.models.add(ModelSpec("m", str(folder), engine="vllm", parameters=parameters))
        await daemon.models.load("m")
        first = daemon.models.get("m").pid
        adapter = peft_files.write(tmp_path / "a", peft_files.pairs(2, layers, 8, size=1.0))
        await daemon.models.adapters.add("m", adapter, "ft:m:portico:x:1")

        async def top(name: str) -> dict[str, float]:
            body = {"prompt": "hello", "max_tokens": 1, "logprobs": 3, "temperature": 0}
            answer = await daemon.ask(name, body, "completions")
            assert answer["model"] == name
            logprobs: dict[str, float] = answer["choices"][0]["logprobs"]["top_logprobs"][0]
            return logprobs

        base, adapted = await top("m"), await top("ft:m:portico:x:1")
        assert base != adapted
        await daemon.models.adapters.scale("ft:m:portico:x:1", 0)
        assert await top("ft:m:portico:x:1") == pytest.approx(base, abs=1e-3)
        await daemon.models.adapters.remove("ft:m:portico:x:1")
        assert await top("m") == pytest.approx(base, abs=1e-3) and daemon.models.get("m").pid == first
