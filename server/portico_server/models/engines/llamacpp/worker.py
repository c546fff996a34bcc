"""The process of a GGUF model: llama.cpp's own HTTP server, from the xllamacpp wheel."""

from __future__ import annotations

import os
import signal
from typing import Any
from urllib.parse import urlsplit

from portico_server.models.engines import worker_link
from portico_server.subprocesses import own_interpreter

SPIN_ROUNDS = "1000"
"""Number of checks, a few tens of microseconds in total, that a thread makes for the other threads to finish before it
sleeps.

A token takes hundreds of such waits. Sleeping immediately halves the speed on an idle machine. Spinning for long makes
llama.cpp several times slower as soon as another program runs on its cores. Two cores, SmolLM2, tokens/s alone and
with one busy neighbour: 0 spins 55 and 52, 1,000 spins 121 and 41, unlimited 100 and 34; one thread 80 and 78.
"""

CPU_BATCH_TOKENS = 256
"""Number of tokens in one step on a machine without a GPU.

The next token of every call waits until the step ends, and larger steps are not faster. Two cores, SmolLM2, prompt
tokens/s with 512, 256, 128 and 64 tokens per step: 267, 267, 249 and 134.
"""

_FLASH = {"auto": "AUTO", "on": "ENABLED", "off": "DISABLED"}

_POOLING = {
    "mean": "LLAMA_POOLING_TYPE_MEAN",
    "cls": "LLAMA_POOLING_TYPE_CLS",
    "last": "LLAMA_POOLING_TYPE_LAST",
    "rank": "LLAMA_POOLING_TYPE_RANK",
}


def parameters(config: dict[str, Any]) -> Any:
    """Return llama.cpp's parameters for the plan in ``config``."""
    import xllamacpp

    plan = config["plan"]
    params = xllamacpp.CommonParams()
    params.model.path = config["model"]
    params.model_alias = {config["name"]}
    params.hostnames = [config["host"]]
    params.port = 0
    params.api_keys = [config["key"]]
    params.ui = False
    params.offline = True
    params.verbosity = 1
    params.n_parallel = plan["slots"]
    params.n_ctx = plan["context_length"] * plan["slots"]
    params.cpuparams.n_threads = plan["threads"]
    params.cpuparams_batch.n_threads = plan["threads"]
    params.n_gpu_layers = plan["gpu_layers"]
    # Fitting would load the model a second time to determine values that the plan already contains.
    params.fit_params = False
    params.warmup = config.get("warmup", True)
    params.cache_ram_mib = plan["prompts_mb"]
    # llama.cpp then caches a prompt only when another call needs its slot. Otherwise, each call would copy
    # the contents of all slots.
    params.cache_idle_slots = False
    if config.get("prompts"):
        params.slot_save_path = os.path.join(config["prompts"], "")
    params.cache_type_k = params.cache_type_v = getattr(
        xllamacpp.ggml_type, f"GGML_TYPE_{plan['cache_type'].upper()}"
    )
    params.flash_attn_type = getattr(
        xllamacpp.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{_FLASH[plan['flash_attention']]}"
    )
    _positions(params, plan)
    _speculation(params, plan)
    if plan["projector"]:
        params.mmproj.path = plan["projector"]
    elif not _uses_gpu(plan):
        # With a projector, the tokens of an image must fit into one step.
        params.n_batch = params.n_ubatch = CPU_BATCH_TOKENS
    if plan["chat_template"]:
        params.chat_template = plan["chat_template"]
    # Adapters have no effect until a call sets their scales.
    params.lora_adapters = [
        xllamacpp.CommonAdapterLoraInfo(path=path, scale=0.0) for path in config["adapters"]
    ]
    if plan["embedding"]:
        params.embedding = True
        params.n_batch = params.n_ubatch = plan["context_length"]
        if plan["pooling"]:
            params.pooling_type = getattr(xllamacpp.llama_pooling_type, _POOLING[plan["pooling"]])
    return params


def _uses_gpu(plan: dict[str, Any]) -> bool:
    import xllamacpp

    cpu = xllamacpp.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    return plan["gpu_layers"] != 0 and any(device["type"] != cpu for device in xllamacpp.get_device_info())


def _positions(params: Any, plan: dict[str, Any]) -> None:
    """Set how the model handles positions beyond the context it was trained with."""
    import xllamacpp

    if plan["rope_scaling"]:
        params.rope_scaling_type = getattr(
            xllamacpp.llama_rope_scaling_type, f"LLAMA_ROPE_SCALING_TYPE_{plan['rope_scaling'].upper()}"
        )
    if plan["rope_scale"]:
        params.rope_freq_scale = 1 / plan["rope_scale"]
    if plan["rope_base"]:
        params.rope_freq_base = plan["rope_base"]
    if plan["rope_original_context"]:
        params.yarn_orig_ctx = plan["rope_original_context"]


def _speculation(params: Any, plan: dict[str, Any]) -> None:
    """Set how tokens are drafted ahead: by a smaller model, or from the preceding text."""
    import xllamacpp

    kinds = xllamacpp.common_speculative_type
    if plan["draft"]:
        params.speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
        params.speculative.draft.mparams.path = plan["draft"]
        params.speculative.draft.n_gpu_layers = plan["gpu_layers"]
        params.speculative.draft.cpuparams.n_threads = plan["threads"]
        params.speculative.draft.cpuparams_batch.n_threads = plan["threads"]
        if plan["draft_tokens"]:
            params.speculative.draft.n_max = plan["draft_tokens"]
    elif plan["speculation"] == "ngram":
        params.speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]


def main() -> None:
    """Run as a child process of the daemon."""
    config = worker_link.receive()
    # OpenMP reads these variables when llama.cpp is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_ROUNDS)
    # llama.cpp's server runs in native threads, so the default action lets the system end the process
    # immediately.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        import xllamacpp
    except ImportError as error:
        worker_link.give_up(
            f"the package xllamacpp does not load ({error}). Reinstall it: {own_interpreter()} -m pip install "
            "--force-reinstall xllamacpp"
        )
    try:
        server = xllamacpp.Server(parameters(config))
    except (RuntimeError, ValueError) as error:
        worker_link.give_up(
            f"llama.cpp cannot load {config['model']} ({error}) See the model's log for the reason: the file "
            "may be damaged, of a kind that this version does not support, or larger than the memory."
        )
    worker_link.announce(urlsplit(server.listening_address).port or 0)
    signal.pause()


if __name__ == "__main__":
    main()
