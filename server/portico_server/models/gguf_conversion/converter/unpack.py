"""Converts a GGUF file into a folder that transformers and trainers accept: 16-bit safetensors, tokenizer, template."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import gguf as library
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from .errors import ConversionFailed

CHAT_TEMPLATE_KEY = "tokenizer.chat_template"

# Configuration, weights, tokenizer and template are read separately; without a cache, each read would take
# seconds to parse the vocabulary.
library.GGUFReader = cache(library.GGUFReader)


def unpack(gguf: Path, out: Path) -> None:
    """Write the model in ``gguf`` to the folder ``out``, atomically. Raise `ConversionFailed` if it cannot be read."""
    if out.exists():
        raise ConversionFailed(f"{out} already exists.")
    if not gguf.is_file():
        raise ConversionFailed(f"The file {gguf} does not exist.")
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".draft-{out.name}-"))
    try:
        _write(gguf, draft)
        draft.chmod(0o755)
        for item in draft.iterdir():
            item.chmod(0o644)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(gguf: Path, folder: Path) -> None:
    load_options: dict[str, Any] = {
        "gguf_file": gguf.name,
        "local_files_only": True,
        "trust_remote_code": False,
    }
    try:
        config = AutoConfig.from_pretrained(gguf.parent, **load_options)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, config=config, dtype=torch.float16, **load_options
        )
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **load_options)
    except (ValueError, KeyError, OSError, NotImplementedError) as error:
        words = " ".join(str(error).split())[:400]
        raise ConversionFailed(f"transformers cannot read {gguf}: {words}") from error
    # The model has been dequantised, so its files must not declare it as quantised.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    template = library.GGUFReader(str(gguf)).get_field(CHAT_TEMPLATE_KEY)
    if template is not None:
        tokenizer.chat_template = template.contents()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
