"""Embeds texts and spans of texts."""

from __future__ import annotations

import base64
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

from .caller import Caller
from .errors import Refusal, UnusableModel
from .folder import ModelFolder, check_weights, pooling_of, read_document, read_rows
from .model_queue import ModelQueue
from .placement import Placement, WorkerSettings, choose_placement
from .tokenize_task import TokenizeTask

# Vectors of text spans are pooled from their tokens' vectors, which are computed in the context of the whole
# text. This is late chunking: M. Günther et al., 2024, https://arxiv.org/abs/2409.04701. A text longer than
# the model's context is computed in overlapping windows; each token's vector comes from the window in which
# more text surrounds the token.


WINDOW_OVERLAP_RATIO = 4
"""Window length divided by the overlap of two windows, both in tokens."""

Spans = list[tuple[int, int]]
"""Character ranges [first, last) of a text."""


@dataclass(frozen=True, slots=True)
class TokenWindow:
    """A window of tokens. Tokens ``begin`` to ``end`` are computed together; the vectors of ``first`` to ``last`` are
    used.
    """

    begin: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Tokens that the model expects before and after the tokens of a text."""

    before: list[int]
    behind: list[int]

    @classmethod
    def of(cls, tokenizer: Any, prompt: str) -> SpecialTokens:
        """Return the tokens that the tokenizer adds to a text, and those of ``prompt``, which the model prepends to
        texts.
        """
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
        full_ids = tokenizer("a")["input_ids"]
        at = next((i for i in range(len(full_ids)) if full_ids[i : i + len(bare)] == bare), 0)
        prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else []
        return cls([*full_ids[:at], *prompt_ids], full_ids[at + len(bare) :])

    def __len__(self) -> int:
        return len(self.before) + len(self.behind)


def spans_of(body: Mapping[str, Any], texts: Sequence[str]) -> list[Spans] | None:
    """Return the spans of each text in a request, or ``None`` if the request has no spans. Raise `Refusal`."""
    value = body.get("spans")
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != len(texts):
        raise Refusal("'spans' must be a list with an entry for each text of 'input'.", param="spans")
    return [
        _check(text_spans, len(text), f"spans[{i}]")
        for i, (text_spans, text) in enumerate(zip(value, texts, strict=True))
    ]


def _check(value: Any, length: int, param: str) -> Spans:
    spans: Spans = []
    for item in value if isinstance(value, list) else ():
        fits = isinstance(item, list) and len(item) == 2 and all(type(number) is int for number in item)
        if not fits or not 0 <= item[0] < item[1] <= length:
            break
        spans.append((item[0], item[1]))
    if not spans or len(spans) < len(value):
        raise Refusal(
            f"'{param}' must be a list of at least one [first, last], as character offsets in a text of "
            f"{length} characters.",
            param=param,
        )
    return spans


def windows(count: int, size: int) -> Iterator[TokenWindow]:
    """Yield windows of up to ``size`` over ``count`` tokens. Each token's vector is taken from exactly one window."""
    shared_tokens = size // WINDOW_OVERLAP_RATIO
    begin = first = 0
    while True:
        end = min(begin + size, count)
        begin = max(0, end - size)  # the last window starts earlier, so that it is as long as the others
        last = end if end == count else end - shared_tokens // 2
        yield TokenWindow(begin, end, first, last)
        if end == count:
            return
        first, begin = last, end - shared_tokens


class LatePooling:
    """Pools the vectors of spans.

    ``states`` returns [rows, tokens, width] for rows of tokens that are padded on the right.
    """

    def __init__(
        self,
        tokenizer: Any,
        wrapping: SpecialTokens,
        context: int,
        budget: int,
        states: Callable[[list[list[int]]], Any],
    ) -> None:
        self._tokenizer = tokenizer
        self._wrapping = wrapping
        self._size = max(1, context - len(wrapping))
        self._budget = budget
        self._states = states

    def pooled(self, text: str, spans: Spans, check: Callable[[], None]) -> tuple[Any, int]:
        """Return the mean of each span's tokens as float32 [spans, width], and the number of computed tokens.

        ``check`` is called between two computations, and can raise.
        """
        read = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids: list[int] = read["input_ids"]
        if not ids:
            raise Refusal("A text has no tokens, so its spans cannot be embedded.", param="input")
        runs = [_tokens(read["offset_mapping"], span) for span in spans]
        cut = list(windows(len(ids), self._size))
        together = max(1, self._budget // (min(len(ids), self._size) + len(self._wrapping)))
        sums: Any = None
        for i in range(0, len(cut), together):
            check()
            part = cut[i : i + together]
            rows = [
                [*self._wrapping.before, *ids[token_window.begin : token_window.end], *self._wrapping.behind]
                for token_window in part
            ]
            for window, states in zip(part, self._states(rows), strict=True):
                if sums is None:
                    sums = torch.zeros(len(spans), states.shape[-1], device=states.device)
                self._add(sums, states, window, runs)
        counts = torch.tensor([last - first for first, last in runs], device=sums.device)
        return sums / counts.unsqueeze(1), sum(
            token_window.end - token_window.begin + len(self._wrapping) for token_window in cut
        )

    def _add(self, sums: Any, states: Any, window: TokenWindow, runs: Sequence[tuple[int, int]]) -> None:
        shift = len(self._wrapping.before) - window.begin
        for number, (first, last) in enumerate(runs):
            begin, end = max(first, window.first), min(last, window.last)
            if begin < end:
                sums[number] += states[begin + shift : end + shift].sum(dim=0)


def _tokens(offsets: Sequence[tuple[int, int]], span: tuple[int, int]) -> tuple[int, int]:
    """Return the first and last token of a span. A token belongs to the span that contains its last character.

    The reason is that a token can include the preceding space, which belongs to the previous span. A span without
    tokens gets the token at its beginning.
    """
    first = bisect_right(offsets, span[0], key=_end)
    last = bisect_right(offsets, span[1], key=_end)
    if first == last:
        first = min(bisect_left(offsets, span[1], key=_end), len(offsets) - 1)
        last = first + 1
    return first, last


def _end(offset: tuple[int, int]) -> int:
    return offset[1]


BATCH_TOKENS = 8_192
"""Maximum number of tokens, including padding, that are computed at once."""

POOLINGS = ("mean", "cls", "last", "max")


@dataclass(frozen=True, slots=True)
class EmbeddingRecipe:
    """How the states of a text's tokens are turned into a vector.

    ``dense`` are the dense layers: weight, bias, and whether a tanh follows. ``prompt`` is prepended to each text.
    """

    pooling: str = "mean"
    normalise: bool = True
    dense: tuple[tuple[Any, Any, bool], ...] = ()
    prompt: str = ""


class EmbeddingTask:
    """The task ``embedding``."""

    def __init__(self, folder: ModelFolder, settings: WorkerSettings) -> None:
        check_weights(folder.path)
        self._placement = choose_placement(settings, generates=False)
        self._recipe = read_recipe(folder, settings.pooling, self._placement)
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        self._model = load_model(AutoModel, folder, self._placement, spare="pooler")
        self.parameters = self._model.num_parameters()
        self.sees = False
        self._name = settings.name
        self._turns = ModelQueue(settings.queue)
        self.context_length = settings.context_length or folder.context_length or 512
        wrapping = SpecialTokens.of(self._tokenizer, self._recipe.prompt)
        self._late_pooling = LatePooling(
            self._tokenizer, wrapping, self.context_length, BATCH_TOKENS, self._states
        )
        with torch.inference_mode():
            self.dimensions = int(self._pool(self._tokens(["warm"])).shape[1])

    def routes(self) -> dict[str, Any]:
        return {"/v1/embeddings": self.embed, **TokenizeTask(self._tokenizer, self.context_length).routes()}

    def embed(self, body: Mapping[str, Any], client: Caller) -> dict[str, Any]:
        """Return OpenAI's embeddings. ``encoding_format`` is ``float`` or ``base64``; ``dimensions`` truncates the
        vectors.

        With ``spans``, a list of [first, last] character offsets for each text, return a vector for each span instead
        of each text, in order: see `LatePooling`.
        """
        texts = _texts(body)
        spans = spans_of(body, texts)
        dimensions = body.get("dimensions")
        if dimensions is not None and (not isinstance(dimensions, int) or dimensions < 1):
            raise Refusal("'dimensions' must be a whole number of at least 1.", param="dimensions")
        if spans is not None and self._recipe.pooling != "mean":
            raise Refusal(
                f"'{self._name}' pools its vectors with '{self._recipe.pooling}' instead of the mean of all "
                "tokens, so it cannot embed spans of a text.",
                param="spans",
            )
        with self._turns.turn(client.has_left), torch.inference_mode():
            if spans is None:
                vectors, count = self._embed_each(texts, client)
            else:
                vectors, count = [], 0
                for text, text_spans in zip(texts, spans, strict=True):
                    pooled_vectors, tokens = self._late_pooling.pooled(text, text_spans, client.check)
                    vectors += self._dense(pooled_vectors)
                    count += tokens
            output = torch.stack(vectors)[:, :dimensions]
            if self._recipe.normalise:
                output = torch.nn.functional.normalize(output, dim=1)
            output = output.cpu()
        encode = _base64 if body.get("encoding_format") == "base64" else _numbers
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": encode(vector)}
                for index, vector in enumerate(output)
            ],
            "model": self._name,
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }

    def _embed_each(self, texts: Sequence[str], client: Caller) -> tuple[list[Any], int]:
        """Return a vector for each text, and the total number of tokens."""
        vectors: list[Any] = [None] * len(texts)
        tokens = self._tokens(texts)
        for places in batches([len(row) for row in tokens], BATCH_TOKENS):
            client.check()
            for index, vector in zip(places, self._pool([tokens[index] for index in places]), strict=True):
                vectors[index] = vector
        return vectors, sum(len(row) for row in tokens)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        token_rows: list[list[int]] = self._tokenizer([self._recipe.prompt + text for text in texts])[
            "input_ids"
        ]
        for index, row in enumerate(token_rows):
            if len(row) > self.context_length:
                raise Refusal(
                    f"A text has {len(row)} tokens, but '{self._name}' can embed at most "
                    f"{self.context_length} tokens.",
                    "context_length_exceeded",
                    f"input[{index}]",
                )
        return token_rows

    def _pool(self, tokens: list[list[int]]) -> Any:
        """Return one vector for each row of tokens: float32, [rows, dimensions]."""
        inputs = self._pad(tokens)
        states = self._model(**inputs).last_hidden_state.float()
        return self._dense(pool(states, inputs["attention_mask"], self._recipe.pooling))

    def _states(self, tokens: list[list[int]]) -> Any:
        """Return the vectors of all tokens: float32, [rows, tokens, width]."""
        return self._model(**self._pad(tokens)).last_hidden_state.float()

    def _pad(self, tokens: list[list[int]]) -> Any:
        inputs = self._tokenizer.pad({"input_ids": tokens}, return_tensors="pt", padding_side="right")
        return inputs.to(self._placement.device)

    def _dense(self, vectors: Any) -> Any:
        """Apply the dense layers of the model's files to pooled vectors. Return [rows, dimensions]."""
        for weight, bias, tanh in self._recipe.dense:
            vectors = torch.nn.functional.linear(vectors, weight, bias)
            vectors = torch.tanh(vectors) if tanh else vectors
        return vectors


def pool(states: Any, mask: Any, pooling: str) -> Any:
    """Pool states [rows, tokens, width] with their mask [rows, tokens] to [rows, width]; padding is on the right."""
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        last = mask.sum(dim=1) - 1
        return states[torch.arange(len(states), device=states.device), last]
    wide = mask.unsqueeze(-1).to(states.dtype)
    if pooling == "max":
        return states.masked_fill(wide == 0, float("-inf")).amax(dim=1)
    return (states * wide).sum(dim=1) / wide.sum(dim=1).clamp(min=1e-9)


def load_model(kind: Any, folder: ModelFolder, placement: Placement, *, spare: str = "") -> Any:
    """Load the model in a folder, ready to compute, without gradients. Raise `UnusableModel`.

    ``spare``: a word in the names of weights that are allowed to be missing.
    """
    try:
        model, report = kind.from_pretrained(
            folder.path,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=placement.dtype,
            output_loading_info=True,
        )
    except (ValueError, KeyError, OSError) as error:
        words = " ".join(str(error).split())
        if "trust_remote_code" in words or "auto_map" in folder.config:
            raise UnusableModel(
                f"The model in {folder.path} ({folder.config.get('model_type')}) needs its own Python code, "
                "which Portico does not run. Use a model whose architecture transformers supports."
            ) from error
        raise UnusableModel(f"transformers cannot load {folder.path}: {words[:600]}") from error
    missing = sorted(key for key in report["missing_keys"] if not spare or spare not in key)
    if missing:
        # transformers would fill missing weights with random numbers, so the answers would be random.
        raise UnusableModel(
            f"The weights in {folder.path} do not belong to a {type(model).__name__}: {missing[0]} is "
            "missing. Set the model's 'task' to the task that the model was made for."
        )
    return model.to(placement.device).eval().requires_grad_(requires_grad=False)


def read_recipe(folder: ModelFolder, pooling: str, placement: Placement) -> EmbeddingRecipe:
    """Read the recipe from the files of sentence-transformers. Without these files, use the normalised mean.

    Raise `UnusableModel` if a module or its settings are not supported.
    """
    modules = read_rows(folder.path / "modules.json")
    if modules is None:
        return EmbeddingRecipe(pooling or "mean")
    pooling_name, normalise, dense = "", False, []
    for module in modules:
        kind = str(module.get("type", "")).rpartition(".")[2]
        at = folder.path / Path(str(module.get("path", ""))).name
        if kind == "Pooling":
            pooling_name = _pooling(at)
        elif kind == "Normalize":
            normalise = True
        elif kind == "Dense":
            dense.append(dense_layer(at, placement))
        elif kind != "Transformer":
            raise UnusableModel(
                f"The model in {folder.path} has a module '{kind}', which this engine does not support."
            )
    config = read_document(folder.path / "config_sentence_transformers.json") or {}
    prompts = config.get("prompts")
    prompt = prompts.get(config.get("default_prompt_name")) if isinstance(prompts, Mapping) else None
    return EmbeddingRecipe(
        pooling or pooling_name or "mean", normalise, tuple(dense), prompt if isinstance(prompt, str) else ""
    )


def _pooling(at: Path) -> str:
    modes = pooling_of(at)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise UnusableModel(
            f"{at / 'config.json'} specifies the pooling {', '.join(modes) or 'none'}; supported values are "
            f"{', '.join(POOLINGS)}. Set the parameter 'pooling'."
        )
    return modes[0]


def dense_layer(at: Path, placement: Placement) -> tuple[Any, Any, bool]:
    """Load a layer of sentence-transformers: weight, bias, and whether a tanh follows. Raise `UnusableModel`."""
    from safetensors.torch import load_file

    check_weights(at)
    activation = str((read_document(at / "config.json") or {}).get("activation_function", "")).rpartition(
        "."
    )[2]
    if activation not in ("", "Identity", "Tanh"):
        raise UnusableModel(f"{at} has the activation {activation}; this engine supports Identity and Tanh.")
    weights = {
        name: value.float().to(placement.device)
        for name, value in load_file(at / "model.safetensors").items()
    }
    if "linear.weight" not in weights:
        raise UnusableModel(f"{at} has no linear.weight.")
    return weights["linear.weight"], weights.get("linear.bias"), activation == "Tanh"


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield batches, as positions of texts of similar length, of at most ``budget`` tokens including padding."""
    batch: list[int] = []
    for place_ in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if batch and lengths[place_] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(place_)
    if batch:
        yield batch


def _texts(body: Mapping[str, Any]) -> list[str]:
    value = body.get("input")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Refusal("'input' must be a text or a list of texts.", param="input")
    return texts


def _numbers(vector: Any) -> list[float]:
    numbers: list[float] = vector.tolist()
    return numbers


def _base64(vector: Any) -> str:
    return base64.b64encode(vector.numpy().astype("<f4").tobytes()).decode()
