"""Writes adapters in the form that LMDeploy can load: plain LoRA on a module in all layers, with a configuration as
PEFT 0.14 writes it. Blocks.
"""

from __future__ import annotations

from pathlib import Path

from portico_server.core.errors import InvalidRequest
from portico_server.core.relay import AdapterScale
from portico_server.models.adapters import peft
from portico_server.models.engines import peft_adapters as folders


def check_adapter(adapter: AdapterScale, base: Path | None) -> peft.PeftAdapter:
    """Check that LMDeploy can serve the model in ``base`` with the adapter. Raise `InvalidRequest` if it cannot."""
    if "=" in adapter.name:
        raise InvalidRequest("LMDeploy does not accept '=' in the name of an adapter.", param="name")
    peft_adapter = folders.check_adapter("lmdeploy", adapter, base)
    adapted_modules = {pair.module for pair in peft_adapter.pairs}
    # LMDeploy allocates the weights of an adapter for each module name in every layer. Weights of layers that
    # the adapter leaves out stay uninitialized.
    lacking = sorted(
        module
        for module in (folders.linear_layers(base) if base is not None else ())
        if module.rpartition(".")[2] in peft_adapter.targets and module not in adapted_modules
    )
    if lacking:
        raise InvalidRequest(
            f"The adapter '{adapter.name}' leaves out '{lacking[0]}' ({len(lacking)} in all): LMDeploy needs "
            "adapters that adapt a module in every layer or in none. The engines vllm and llamacpp accept "
            "this adapter.",
            code="adapter_invalid",
            param="path",
        )
    return peft_adapter


def plain_adapter(adapter: AdapterScale, base: Path | None) -> Path:
    """Return a folder with the same weights and a configuration that contains only fields LMDeploy reads.

    LMDeploy does not support rsLoRA, and cannot read a configuration that a newer PEFT has written. Raises
    `InvalidRequest`.
    """
    peft_adapter = check_adapter(adapter, base)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": peft_adapter.base,
        "r": peft_adapter.rank,
        "lora_alpha": peft_adapter.pairs[0].scaling * peft_adapter.rank * adapter.scale,
        "target_modules": list(peft_adapter.targets),
        "bias": "none",
    }
    return folders.write_variant(adapter, f"plain-{adapter.scale:g}", config)
