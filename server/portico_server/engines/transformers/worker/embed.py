"""Texts to vectors, by the rules that the model's own sentence-transformers files give.

Source: https://sbert.net/docs/package_reference/sentence_transformer/models.html.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

from .client import Client
from .folder import Folder, check_weights, document, pooling_of, rows
from .late import Late, Wrapping, spans_of
from .refusal import Refusal, Unfit
from .settings import Place, Settings, place
from .tokens import Tokens
from .turn import Turns

BATCH_TOKENS = 8_192
"""Tokens, padding included, that are computed at once."""

POOLINGS = ("mean", "cls", "last", "max")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What happens to the states of a text's tokens. ``dense`` are layers: weight, bias, whether a tanh follows;
    ``prompt`` is put before each text.
    """

    pooling: str = "mean"
    normalise: bool = True
    dense: tuple[tuple[Any, Any, bool], ...] = ()
    prompt: str = ""


class Embedder:
    """The task ``embedding``."""

    def __init__(self, folder: Folder, settings: Settings) -> None:
        check_weights(folder.path)
        self._where = place(settings, generates=False)
        self._recipe = recipe(folder, settings.pooling, self._where)
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        self._model = load(AutoModel, folder, self._where, spare="pooler")
        self.parameters = self._model.num_parameters()
        self.sees = False
        self._name = settings.name
        self._turns = Turns(settings.queue)
        self.context_length = settings.context_length or folder.context_length or 512
        wrapping = Wrapping.of(self._tokenizer, self._recipe.prompt)
        self._late = Late(self._tokenizer, wrapping, self.context_length, BATCH_TOKENS, self._states)
        with torch.inference_mode():
            self.dimensions = int(self._pool(self._tokens(["warm"])).shape[1])

    def posts(self) -> dict[str, Any]:
        return {"/v1/embeddings": self.embed, **Tokens(self._tokenizer, self.context_length).posts()}

    def embed(self, body: Mapping[str, Any], client: Client) -> dict[str, Any]:
        """OpenAI's embeddings. ``encoding_format`` is ``float`` or ``base64``, ``dimensions`` cuts the vectors.

        With ``spans``, for each text a list of [first, last] in characters, there is a vector for each span instead of
        each text, in their order: see `late`.
        """
        texts = _texts(body)
        spans = spans_of(body, texts)
        dimensions = body.get("dimensions")
        if dimensions is not None and (not isinstance(dimensions, int) or dimensions < 1):
            raise Refusal("'dimensions' must be a whole number of at least 1.", param="dimensions")
        if spans is not None and self._recipe.pooling != "mean":
            raise Refusal(
                f"'{self._name}' makes its vectors by '{self._recipe.pooling}' and not of the mean of all tokens, so "
                "spans of a text have none.",
                param="spans",
            )
        with self._turns.turn(client.gone), torch.inference_mode():
            if spans is None:
                vectors, count = self._each(texts, client)
            else:
                vectors, count = [], 0
                for text, some in zip(texts, spans, strict=True):
                    pooled, tokens = self._late.pooled(text, some, client.check)
                    vectors += self._dense(pooled)
                    count += tokens
            found = torch.stack(vectors)[:, :dimensions]
            if self._recipe.normalise:
                found = torch.nn.functional.normalize(found, dim=1)
            found = found.cpu()
        encode = _base64 if body.get("encoding_format") == "base64" else _numbers
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": encode(vector)}
                for index, vector in enumerate(found)
            ],
            "model": self._name,
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }

    def _each(self, texts: Sequence[str], client: Client) -> tuple[list[Any], int]:
        """A vector for each text, and how many tokens they have."""
        vectors: list[Any] = [None] * len(texts)
        tokens = self._tokens(texts)
        for places in batches([len(row) for row in tokens], BATCH_TOKENS):
            client.check()
            for index, vector in zip(places, self._pool([tokens[index] for index in places]), strict=True):
                vectors[index] = vector
        return vectors, sum(len(row) for row in tokens)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = self._tokenizer([self._recipe.prompt + text for text in texts])["input_ids"]
        for index, row in enumerate(found):
            if len(row) > self.context_length:
                raise Refusal(
                    f"A text has {len(row)} tokens, but '{self._name}' can embed {self.context_length} at once.",
                    "context_length_exceeded",
                    f"input[{index}]",
                )
        return found

    def _pool(self, tokens: list[list[int]]) -> Any:
        """One vector for each row of tokens: float32, [rows, dimensions]."""
        inputs = self._padded(tokens)
        states = self._model(**inputs).last_hidden_state.float()
        return self._dense(pool(states, inputs["attention_mask"], self._recipe.pooling))

    def _states(self, tokens: list[list[int]]) -> Any:
        """The vectors of all tokens: float32, [rows, tokens, width]."""
        return self._model(**self._padded(tokens)).last_hidden_state.float()

    def _padded(self, tokens: list[list[int]]) -> Any:
        inputs = self._tokenizer.pad({"input_ids": tokens}, return_tensors="pt", padding_side="right")
        return inputs.to(self._where.device)

    def _dense(self, vectors: Any) -> Any:
        """What the model's files say happens to pooled vectors: [rows, dimensions]."""
        for weight, bias, tanh in self._recipe.dense:
            vectors = torch.nn.functional.linear(vectors, weight, bias)
            vectors = torch.tanh(vectors) if tanh else vectors
        return vectors


def pool(states: Any, mask: Any, pooling: str) -> Any:
    """From states [rows, tokens, width] and their mask [rows, tokens] to [rows, width]; padding is on the right."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        last = mask.sum(dim=1) - 1
        return states[torch.arange(len(states), device=states.device), last]
    wide = mask.unsqueeze(-1).to(states.dtype)
    if pooling == "max":
        return states.masked_fill(wide == 0, float("-inf")).amax(dim=1)
    return (states * wide).sum(dim=1) / wide.sum(dim=1).clamp(min=1e-9)


def load(kind: Any, folder: Folder, where: Place, *, spare: str = "") -> Any:
    """The model in a folder, ready to compute, without gradients. Raises `Unfit`.

    ``spare``: a word in the names of weights that may be missing.
    """
    try:
        model, told = kind.from_pretrained(
            folder.path,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=where.dtype,
            output_loading_info=True,
        )
    except (ValueError, KeyError, OSError) as error:
        words = " ".join(str(error).split())
        if "trust_remote_code" in words or "auto_map" in folder.config:
            raise Unfit(
                f"The model in {folder.path} ({folder.config.get('model_type')}) needs Python code of its own, which "
                "is not run. Use a model whose architecture transformers knows."
            ) from error
        raise Unfit(f"transformers cannot load {folder.path}: {words[:600]}") from error
    missing = sorted(key for key in told["missing_keys"] if not spare or spare not in key)
    if missing:
        # They would be random numbers, and so would be the answers.
        raise Unfit(
            f"The weights in {folder.path} are not those of a {type(model).__name__}: {missing[0]} is missing. Set the "
            "'task' of the model to what it was made for."
        )
    return model.to(where.device).eval().requires_grad_(requires_grad=False)


def recipe(folder: Folder, pooling: str, where: Place) -> Recipe:
    """What the files of sentence-transformers say; the mean, normalised, where there are none. Raises `Unfit`."""
    modules = rows(folder.path / "modules.json")
    if modules is None:
        return Recipe(pooling or "mean")
    found, normalise, dense = "", False, []
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        at = folder.path / Path(str(module.get("path", ""))).name
        if kind == "Pooling":
            found = _pooling(at)
        elif kind == "Normalize":
            normalise = True
        elif kind == "Dense":
            dense.append(_dense(at, where))
        elif kind != "Transformer":
            raise Unfit(
                f"The model in {folder.path} has a module '{kind}', which this engine does not compute."
            )
    asked = document(folder.path / "config_sentence_transformers.json") or {}
    prompts = asked.get("prompts")
    prompt = prompts.get(asked.get("default_prompt_name")) if isinstance(prompts, Mapping) else None
    return Recipe(
        pooling or found or "mean", normalise, tuple(dense), prompt if isinstance(prompt, str) else ""
    )


def _pooling(at: Path) -> str:
    modes = pooling_of(at)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise Unfit(
            f"{at / 'config.json'} asks for the pooling {', '.join(modes) or 'none'}; one of {', '.join(POOLINGS)} can "
            "be computed. Set the parameter 'pooling'."
        )
    return modes[0]


def _dense(at: Path, where: Place) -> tuple[Any, Any, bool]:
    from safetensors.torch import load_file

    check_weights(at)
    activation = str((document(at / "config.json") or {}).get("activation_function", "")).rpartition(".")[2]
    if activation not in ("", "Identity", "Tanh"):
        raise Unfit(f"{at} has the activation {activation}; this engine computes Identity and Tanh.")
    weights = {
        name: value.float().to(where.device) for name, value in load_file(at / "model.safetensors").items()
    }
    if "linear.weight" not in weights:
        raise Unfit(f"{at} has no linear.weight.")
    return weights["linear.weight"], weights.get("linear.bias"), activation == "Tanh"


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Places of texts that are computed together: of like length, at most ``budget`` tokens with their padding."""
    batch: list[int] = []
    for place_ in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if batch and lengths[place_] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(place_)
    if batch:
        yield batch


def _texts(body: Mapping[str, Any]) -> list[str]:
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Refusal("'input' must be a text or a list of texts.", param="input")
    return texts


def _numbers(vector: Any) -> list[float]:
    found: list[float] = vector.tolist()
    return found


def _base64(vector: Any) -> str:
    return base64.b64encode(vector.numpy().astype("<f4").tobytes()).decode()
