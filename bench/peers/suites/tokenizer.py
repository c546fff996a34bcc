"""Writes the tokenizer in a GGUF file in the format of Hugging Face: ``python tokenizer.py FILE FOLDER``.

lm-evaluation-harness needs it to tell which tokens of an answer are the prompt's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gguf import GGUFReader
from tokenizers import Tokenizer, decoders, models, pre_tokenizers


def texts(reader: GGUFReader, name: str) -> list[str]:
    """Return a list of texts in the metadata of the file."""
    metadata = reader.fields[f"tokenizer.ggml.{name}"]
    return [bytes(metadata.parts[place]).decode() for place in metadata.data]


def main() -> None:
    file, folder = sys.argv[1], Path(sys.argv[2])
    reader = GGUFReader(file)
    vocabulary = {token: number for number, token in enumerate(texts(reader, "tokens"))}
    merges = [
        (first, second) for first, _, second in (line.partition(" ") for line in texts(reader, "merges"))
    ]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "bos_token": "<|im_start|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about), encoding="utf-8")


if __name__ == "__main__":
    main()
