"""Two tiny models of random weights, written without any library. In your own program they are models that know something."""

import json
import random
import re
import struct
from array import array
from pathlib import Path

WIDTH, LENGTH = 32, 96
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def make(folder: Path, texts: list[Path], *, reranker: bool) -> Path:
    """A BERT of one layer for the words of some texts, as a folder of safetensors."""
    folder.mkdir(exist_ok=True)
    found = {word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.read_text("utf-8").lower())}
    words = {word: number for number, word in enumerate([*SPECIAL, *sorted(found)])}
    _write_weights(folder / "model.safetensors", _shapes(len(words), reranker=reranker))
    kind = "BertForSequenceClassification" if reranker else "BertModel"
    sizes = {"vocab_size": len(words), "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_labels": 1}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": LENGTH}
    _write(folder / "config.json", {"model_type": "bert", "architectures": [kind], **sizes, **layers})
    _write(folder / "tokenizer.json", _tokenizer(words))
    marks = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), SPECIAL, strict=True))
    given = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": LENGTH, **marks}
    _write(folder / "tokenizer_config.json", given)
    return folder.resolve()


def _shapes(words: int, *, reranker: bool) -> dict[str, tuple[int, ...]]:
    at = "bert." if reranker else ""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, out: int, into: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, into), (out,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (WIDTH,), (WIDTH,)

    for name, size in (("word", words), ("position", LENGTH), ("token_type", 2)):
        shapes[f"{at}embeddings.{name}_embeddings.weight"] = (size, WIDTH)
    norm(f"{at}embeddings.LayerNorm")
    layer = f"{at}encoder.layer.0"
    for part in ("self.query", "self.key", "self.value", "output.dense"):
        linear(f"{layer}.attention.{part}", WIDTH, WIDTH)
    norm(f"{layer}.attention.output.LayerNorm")
    linear(f"{layer}.intermediate.dense", 2 * WIDTH, WIDTH)
    linear(f"{layer}.output.dense", WIDTH, 2 * WIDTH)
    norm(f"{layer}.output.LayerNorm")
    linear(f"{at}pooler.dense", WIDTH, WIDTH)
    if reranker:
        linear("classifier", 1, WIDTH)
    return shapes


def _write_weights(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """https://huggingface.co/docs/safetensors: a length, a header of JSON, the numbers."""
    chance = random.Random(7)  # noqa: S311  # no secret
    numbers, header = array("f"), {}
    for name, shape in shapes.items():
        size = shape[0] * (shape[1] if len(shape) > 1 else 1)
        first = 4 * len(numbers)
        if len(shape) > 1:
            numbers.extend(chance.gauss(0, 0.16) for _ in range(size))
        else:
            numbers.extend([1.0 if name.endswith("LayerNorm.weight") else 0.0] * size)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [first, 4 * len(numbers)]}
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + numbers.tobytes())


def _tokenizer(words: dict[str, int]) -> dict[str, object]:
    """Words and single Chinese characters, in lower case."""
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
    ids = {mark: {"id": mark, "ids": [words[mark]], "tokens": [mark]} for mark in ("[CLS]", "[SEP]")}

    def pieces(*names: tuple[str, str, int]) -> list[dict[str, object]]:
        return [{kind: {"id": name, "type_id": number}} for kind, name, number in names]

    start, first = ("SpecialToken", "[CLS]", 0), [("Sequence", "A", 0), ("SpecialToken", "[SEP]", 0)]
    second = [("Sequence", "B", 1), ("SpecialToken", "[SEP]", 1)]
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": words[mark], "content": mark, "single_word": False, "lstrip": False, "rstrip": False}
            | {"normalized": False, "special": True}
            for mark in SPECIAL
        ],
        "normalizer": {**normalizer, "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": pieces(start, *first),
            "pair": pieces(start, *first, *second),
            "special_tokens": ids,
        },
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"},
    }


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
