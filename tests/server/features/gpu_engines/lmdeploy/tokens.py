"""Generates LMDeploy's tokens on the CPU, in place of TurboMind and its PyTorch engine, which need a GPU.

Runs in LMDeploy's environment. It implements only what `AsyncEngine` requires of an engine: handles that turn token
ids into `EngineOutput`, and their state.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import torch
import xgrammar
from lmdeploy._guided_decoding import compile_response_format
from lmdeploy.messages import EngineOutput, GenerationConfig, RequestMetrics, ResponseType, ScheduleMetrics
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

PACE = 0.003
"""Seconds between two tokens, so that a client can leave a stream while it runs."""


class Maker:
    """An engine. The prompt decides what it does: see `Handle.async_stream_infer`."""

    def __init__(self, path: str, config: Any) -> None:
        self.engine_config = config
        self.tokenizer = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.width = self.model.config.vocab_size
        tokenizer_info = xgrammar.TokenizerInfo.from_huggingface(self.tokenizer, vocab_size=self.width)
        self.compiler = xgrammar.GrammarCompiler(tokenizer_info)
        texts = (self.tokenizer.decode([token]) for token in range(self.width))
        self.blank = torch.tensor([not text.strip() for text in texts])
        self.adapted = {None: self.model}
        for name, folder in (getattr(config, "adapters", None) or {}).items():
            self.adapted[name] = _with_adapter(path, Path(folder))
        self.active = 0
        self.ticks = 0
        self.lost = False

    def create_instance(self) -> Handle:
        return Handle(self)

    def get_schedule_metrics(self) -> ScheduleMetrics:
        return ScheduleMetrics(active_seqs=self.active, scheduler_tick=self.ticks)

    async def get_health_status(self) -> dict[str, Any]:
        message = "The engine has lost its GPU." if self.lost else ""
        return {"alive": not self.lost, "message": message, "schedule_metrics": self.get_schedule_metrics()}

    def close(self) -> None:
        print("the engine is closed", flush=True)


class Handle:
    """A handle for one call at a time, like `TurboMindInstance`."""

    def __init__(self, maker: Maker) -> None:
        self._maker = maker
        self._left = False

    async def async_cancel(self, session_id: int) -> None:
        self._left = True

    async def async_stream_infer(
        self,
        session_id: int,
        input_ids: list[int],
        gen_config: GenerationConfig,
        adapter_name: str | None = None,
        **_more: Any,
    ) -> AsyncIterator[EngineOutput]:
        """Repeat the text in ``<<…>>``; ``break the engine`` causes an engine error, ``fill the memory`` out of
        memory.
        """
        maker, self._left = self._maker, False
        text = maker.tokenizer.decode(input_ids)
        print(f"session {session_id} begins: {json.dumps(_facts(gen_config))}", flush=True)
        maker.lost = maker.lost or "break the engine" in text
        if maker.lost or "fill the memory" in text:
            yield EngineOutput(
                ResponseType.INTERNAL_ENGINE_ERROR if maker.lost else ResponseType.OUT_OF_MEMORY, []
            )
            return
        script = maker.tokenizer.encode("".join(re.findall("<<(.*?)>>", text, re.DOTALL)[-1:]))
        token_count = 0
        maker.active += 1
        outcome = "was left"
        try:
            for output in self._steps(input_ids, gen_config, adapter_name, script):
                await asyncio.sleep(PACE)
                if self._left:
                    outcome = "was cancelled"
                    yield EngineOutput(ResponseType.CANCEL, [])
                    return
                token_count += 1
                maker.ticks += 1
                yield output
            outcome = "is done"
        finally:
            maker.active -= 1
            print(f"session {session_id} {outcome} after {token_count} tokens", flush=True)

    def _steps(
        self, prompt: list[int], wanted: GenerationConfig, adapter: str | None, script: list[int]
    ) -> Any:
        maker = self._maker
        model = maker.adapted[adapter]
        chooser = torch.Generator().manual_seed((wanted.random_seed or 0) % 2**63)
        matcher = None
        if wanted.response_format is not None:
            matcher = xgrammar.GrammarMatcher(compile_response_format(maker.compiler, wanted.response_format))
        mask = xgrammar.allocate_token_bitmask(1, maker.width)
        ids, past, sequence, blanks = torch.tensor([prompt]), None, list(prompt), 0
        for step in range(wanted.max_new_tokens):
            with torch.inference_mode():
                output = model(ids, past_key_values=past, use_cache=True)
            past, scores = output.past_key_values, output.logits[0, -1].clone()
            raw = scores.log_softmax(-1)
            if matcher is not None:
                matcher.fill_next_token_bitmask(mask)
                xgrammar.apply_token_bitmask_inplace(scores[None], mask)
                if blanks and not bool((scores.masked_fill(maker.blank, -torch.inf) == -torch.inf).all()):
                    scores = scores.masked_fill(maker.blank, -torch.inf)  # random weights would never end
            for process in wanted.logits_processors or ():
                scores = process(sequence, scores)
            token = _choice(scores, wanted, chooser)
            if script:
                token = [*script, maker.tokenizer.eos_token_id][step]
            blanks = int(bool(maker.blank[token]))
            sequence.append(token)
            ids = torch.tensor([[token]])
            is_end = not wanted.ignore_eos and token in (wanted.stop_token_ids or ())
            if matcher is not None and not is_end:
                matcher.accept_token(token)
            logprobs = None
            if wanted.logprobs:
                values, best = raw.topk(wanted.logprobs)
                logprobs = [
                    {**dict(zip(best.tolist(), values.tolist(), strict=True)), token: float(raw[token])}
                ]
            last = (
                is_end
                or step + 1 == wanted.max_new_tokens
                or len(sequence) >= maker.engine_config.session_len
            )
            status = ResponseType.FINISH if last else ResponseType.SUCCESS
            yield EngineOutput(status, [token], logprobs=logprobs, req_metrics=RequestMetrics(0.0, []))
            if last:
                return


def _choice(scores: torch.Tensor, wanted: GenerationConfig, chooser: torch.Generator) -> int:
    if wanted.temperature == 0 or wanted.top_k == 1:
        return int(scores.argmax())
    return int(torch.multinomial((scores / wanted.temperature).softmax(-1), 1, generator=chooser))


def _facts(wanted: GenerationConfig) -> dict[str, Any]:
    """Return the facts about a call that a test may check."""
    return {
        "stop_words": wanted.stop_words,
        "max_new_tokens": wanted.max_new_tokens,
        "logprobs": wanted.logprobs,
    }


def _with_adapter(base: str, folder: Path) -> Any:
    """Return the model with the adapter's weights added; LMDeploy's own code reads the adapter's configuration."""
    from lmdeploy.pytorch.adapter.adapter import get_ranks_and_scalings
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(str(folder))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    weights = load_file(folder / "adapter_model.safetensors")
    for key, a in weights.items():
        if not key.endswith("lora_A.weight"):
            continue
        module = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        _, [scaling] = get_ranks_and_scalings(module.rpartition(".")[2], [config])
        model.get_submodule(module).weight.data += (
            float(scaling) * weights[key.replace("lora_A", "lora_B")] @ a
        )
    return model
