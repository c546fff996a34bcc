"""Ranks texts by how well they answer a question, with models of three kinds.

A cross-encoder reads question and text together and returns one number.

Late interaction (ColBERT, Khattab and Zaharia 2020) computes a vector for each token of question and document. The
score is the mean, over the question's tokens, of the similarity to the nearest document token. Layouts: ColBERT's own
(a BERT with ``linear.weight``, lengths in ``artifact.metadata``) and PyLate's (``modules.json`` with dense layers and
no pooling).

Learned sparse vectors (SPLADE, Formal et al. 2021) are a weight for each word of the vocabulary, from the head of a
masked language model: the maximum over the tokens of log(1 + relu(logit)). The score is the inner product. The last
two kinds read question and text separately.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from .caller import Caller
from .embed import BATCH_TOKENS, batches, dense_layer, load_model
from .errors import Refusal, UnusableModel
from .folder import COLBERT_METADATA, ModelFolder, check_weights, module_kinds, read_document
from .model_queue import ModelQueue
from .placement import WorkerSettings, choose_placement

QUERY_TOKENS, DOCUMENT_TOKENS = 32, 300
"""Default length of a question, and of a document, in tokens, if the model's files do not specify it."""

MIN_QUERY_TOKENS = 4
"""Minimum question length, in tokens, that a model with a small limit must be able to read."""


ReadForRanking: TypeAlias = tuple[Sequence[int], int, Callable[[Sequence[int]], Sequence[float]]]
"""The tokens of each document, the total number of tokens, and a function from document positions to scores."""


@dataclass(frozen=True, slots=True)
class SideSettings:
    """How questions or documents are read: the token inserted after the first token, and the maximum number of
    tokens.
    """

    marker: int | None
    length: int


class RerankTask:
    """The ``rerank`` task: scores in [0, 1] for documents and a question.

    A subclass defines how question and documents are read, and how a batch of documents is scored.
    """

    dimensions = 0
    sees = False

    def __init__(self, folder: ModelFolder, settings: WorkerSettings, kind: Any, spare: str = "") -> None:
        check_weights(folder.path)
        self._placement = choose_placement(settings, generates=False)
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        self._model = load_model(kind, folder, self._placement, spare=spare)
        self._name = settings.name
        self._turns = ModelQueue(settings.queue)
        self.parameters = self._model.num_parameters()
        self.context_length = settings.context_length or folder.context_length or 512

    def routes(self) -> dict[str, Any]:
        return {"/v1/rerank": self.rank}

    def rank(self, body: Mapping[str, Any], client: Caller) -> dict[str, Any]:
        """Return scores in [0, 1], best first, in the format of Jina and Cohere. Long documents are truncated."""
        query, documents = body.get("query"), body.get("documents")
        if not isinstance(query, str) or not query:
            raise Refusal("'query' must be a text.", param="query")
        if not isinstance(documents, list) or not all(isinstance(text, str) for text in documents):
            raise Refusal("'documents' must be a list of texts.", param="documents")
        scores = [0.0] * len(documents)
        # Truncation settings are stored in the tokenizer, so only one caller can use the tokenizer at a time.
        with self._turns.turn(client.has_left), torch.inference_mode():
            lengths, count, score = self._read(query, documents)
            for places in batches(lengths, BATCH_TOKENS):
                client.check()
                for index, score_value in zip(places, score(places), strict=True):
                    scores[index] = score_value
        order = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.get("top_n") or None]
        return {
            "object": "list",
            "model": self._name,
            "results": [{"index": index, "relevance_score": scores[index]} for index in order],
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }

    def _read(self, query: str, documents: Sequence[str]) -> ReadForRanking:
        raise NotImplementedError


class CrossEncoderTask(RerankTask):
    """Ranks with a model that returns one score for question and document together. Questions are not truncated."""

    def __init__(self, folder: ModelFolder, settings: WorkerSettings) -> None:
        super().__init__(folder, settings, AutoModelForSequenceClassification)
        if self._model.config.num_labels != 1:
            raise UnusableModel(
                f"The model in {folder.path} sorts texts into {self._model.config.num_labels} classes. A "
                "reranker must have one score."
            )

    def _read(self, query: str, documents: Sequence[str]) -> ReadForRanking:
        rows = [self._pair(query, text) for text in documents]
        lengths = [len(row["input_ids"]) for row in rows]
        return lengths, sum(lengths), lambda places: self._score([rows[index] for index in places])

    def _pair(self, query: str, text: str) -> dict[str, list[int]]:
        encoding = self._tokenizer(query, text)
        if len(encoding["input_ids"]) <= self.context_length:
            return dict(encoding)
        question_length = len(self._tokenizer(query, "")["input_ids"])
        if question_length >= self.context_length:
            raise Refusal(
                f"The question has {question_length} tokens, but '{self._name}' reads at most "
                f"{self.context_length} tokens, including the document.",
                "context_length_exceeded",
                "query",
            )
        cut = self._tokenizer(query, text, truncation="only_second", max_length=self.context_length)
        return dict(cut)

    def _score(self, rows: list[dict[str, list[int]]]) -> list[float]:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        inputs = self._tokenizer.pad(columns, return_tensors="pt").to(self._placement.device)
        relevance: list[float] = torch.sigmoid(self._model(**inputs).logits.float()[:, 0]).tolist()
        return relevance


class SideBySideTask(RerankTask):
    """Ranks with a model that reads question and documents separately. Long texts are truncated."""

    def _read(self, query: str, documents: Sequence[str]) -> ReadForRanking:
        query_tokens = self._query_tokens(query)
        question = self._question(query_tokens)
        rows = [self._document_tokens(text) for text in documents]
        lengths = [len(row) for row in rows]
        return (
            lengths,
            len(query_tokens) + sum(lengths),
            lambda places: self._scores(question, [rows[index] for index in places]),
        )

    def _cut(self, text: str, side: SideSettings) -> list[int]:
        """Return the tokens of a text, with the model's special tokens and with the side's marker after the first
        token.
        """
        limit = min(side.length, self.context_length) - (side.marker is not None)
        ids: list[int] = self._tokenizer(text, verbose=False)["input_ids"]
        if len(ids) > limit:  # truncation keeps the last token, which marks the end of a text
            ids = [*ids[: limit - 1], ids[-1]]
        return ids if side.marker is None else [ids[0], side.marker, *ids[1:]]

    def _pad(self, rows: Sequence[Sequence[int]]) -> Any:
        inputs = self._tokenizer.pad({"input_ids": list(rows)}, return_tensors="pt", padding_side="right")
        return inputs.to(self._placement.device)

    def _query_tokens(self, text: str) -> list[int]:
        raise NotImplementedError

    def _document_tokens(self, text: str) -> list[int]:
        raise NotImplementedError

    def _question(self, tokens: list[int]) -> Any:
        raise NotImplementedError

    def _scores(self, question: Any, rows: Sequence[list[int]]) -> list[float]:
        raise NotImplementedError


class LateInteractionTask(SideBySideTask):
    """Ranks with a model like ColBERT."""

    def __init__(self, folder: ModelFolder, settings: WorkerSettings) -> None:
        super().__init__(folder, settings, AutoModel, "pooler")
        self._layers = _projection(folder.path, self._placement)
        own_metadata = read_document(folder.path / COLBERT_METADATA)
        metadata = own_metadata or read_document(folder.path / "config_sentence_transformers.json") or {}
        names = (
            ("query_token_id", "doc_token_id", "query_maxlen", "doc_maxlen")
            if own_metadata is not None
            else ("query_prefix", "document_prefix", "query_length", "document_length")
        )
        self._query = self._side(metadata, names[0], names[2], QUERY_TOKENS)
        self._document = self._side(metadata, names[1], names[3], DOCUMENT_TOKENS)
        if self._query.length < MIN_QUERY_TOKENS or self._document.length < MIN_QUERY_TOKENS:
            raise UnusableModel(f"The limits in {folder.path} leave no tokens for a question or a document.")
        # Questions are padded with mask tokens, whose vectors represent related meanings.
        expands = own_metadata is not None or metadata.get("do_query_expansion", True) is not False
        self._mask: int | None = self._tokenizer.mask_token_id if expands else None
        attends = metadata.get(
            "attend_to_mask_tokens" if own_metadata is not None else "attend_to_expansion_tokens"
        )
        self._attends = attends is True
        if own_metadata is not None:
            skipped_words = (
                list(string.punctuation) if own_metadata.get("mask_punctuation", True) is not False else []
            )
        else:
            skip_list = metadata.get("skiplist_words")
            skipped_words = (
                [word for word in skip_list if isinstance(word, str)] if isinstance(skip_list, list) else []
            )
        unknown = self._tokenizer.unk_token_id
        skipped_ids = (self._tokenizer.convert_tokens_to_ids(word) for word in skipped_words)
        self._skipped_tokens = torch.tensor(
            sorted({index for index in skipped_ids if isinstance(index, int) and index != unknown}),
            dtype=torch.long,
            device=self._placement.device,
        )

    def _side(self, metadata: Mapping[str, Any], marker: str, length: str, default: int) -> SideSettings:
        word, max_length = metadata.get(marker), metadata.get(length)
        index = self._tokenizer.convert_tokens_to_ids(word) if isinstance(word, str) and word else None
        if index == self._tokenizer.unk_token_id and word != self._tokenizer.unk_token:
            raise UnusableModel(
                f"The tokenizer of '{self._name}' does not contain its marker {str(word)[:40]!r}."
            )
        return SideSettings(
            index,
            max_length
            if isinstance(max_length, int) and not isinstance(max_length, bool) and max_length > 0
            else default,
        )

    def _query_tokens(self, text: str) -> list[int]:
        ids = self._cut(text, self._query)
        if self._mask is not None:
            ids += [self._mask] * (min(self._query.length, self.context_length) - len(ids))
        return ids

    def _document_tokens(self, text: str) -> list[int]:
        return self._cut(text, self._document)

    def _question(self, tokens: list[int]) -> Any:
        inputs = self._pad([tokens])
        if self._mask is not None and not self._attends:
            inputs["attention_mask"] = (inputs["input_ids"] != self._mask).long()
        return self._vectors(inputs)[0]

    def _scores(self, question: Any, rows: Sequence[list[int]]) -> list[float]:
        inputs = self._pad(rows)
        near = torch.einsum("qd,rtd->rqt", question, self._vectors(inputs))
        counts = inputs["attention_mask"].bool() & ~torch.isin(inputs["input_ids"], self._skipped_tokens)
        # The first token represents the whole text, so a document of only punctuation keeps this token.
        counts[:, 0] = True
        best = near.masked_fill(~counts.unsqueeze(1), -1.0).amax(dim=2)
        relevance: list[float] = best.mean(dim=1).clamp(0, 1).tolist()
        return relevance

    def _vectors(self, inputs: Any) -> Any:
        """Return a vector of length 1 for each token: float32, [rows, tokens, width]."""
        states = self._model(**inputs).last_hidden_state.float()
        for weight, bias, tanh in self._layers:
            states = torch.nn.functional.linear(states, weight, bias)
            states = torch.tanh(states) if tanh else states
        return torch.nn.functional.normalize(states, dim=-1)


class SparseTask(SideBySideTask):
    """Ranks with a model like SPLADE."""

    def __init__(self, folder: ModelFolder, settings: WorkerSettings) -> None:
        super().__init__(folder, settings, AutoModelForMaskedLM, "")
        self._side = SideSettings(None, self.context_length)
        special = torch.tensor(self._tokenizer.all_special_ids, dtype=torch.long)
        self._special = special.to(self._placement.device)
        names = module_kinds(folder.path).get("SpladePooling", [""])
        config = (read_document(folder.path / Path(names[0]).name / "config.json") or {}) if names[0] else {}
        strategy, activation = (
            config.get("pooling_strategy", "max"),
            config.get("activation_function", "relu"),
        )
        if strategy not in ("max", "sum") or activation not in ("relu", "log1p_relu"):
            raise UnusableModel(
                f"{folder.path / names[0]} specifies the pooling {strategy} of {activation}; this engine "
                "supports max and sum of relu and log1p_relu."
            )
        self._sums, self._twice = strategy == "sum", activation == "log1p_relu"

    def _query_tokens(self, text: str) -> list[int]:
        return self._cut(text, self._side)

    def _document_tokens(self, text: str) -> list[int]:
        return self._cut(text, self._side)

    def _question(self, tokens: list[int]) -> Any:
        return self._weights([tokens])[0]

    def _scores(self, question: Any, rows: Sequence[list[int]]) -> list[float]:
        """Return scores in [0, 1], in the same order as the inner products, which have no upper bound.

        The inner product of the question with itself is mapped to 0.5.
        """
        products = self._weights(rows) @ question
        question_norm = (question @ question).clamp(min=1e-9)
        relevance: list[float] = (products / (products + question_norm)).tolist()
        return relevance

    def _weights(self, rows: Sequence[list[int]]) -> Any:
        """Return the weight of each word of the vocabulary: float32, [rows, words]."""
        inputs = self._pad(rows)
        logits = self._model(**inputs).logits.float()
        weights = torch.log1p(torch.relu(logits))
        weights = torch.log1p(weights) if self._twice else weights
        weights = weights * inputs["attention_mask"].unsqueeze(-1)
        token_weights = weights.sum(dim=1) if self._sums else weights.amax(dim=1)
        token_weights[:, self._special] = 0
        return token_weights


def _projection(path: Path, placement: Any) -> list[tuple[Any, Any, bool]]:
    """Return the layers that turn the token states into vectors."""
    if (path / COLBERT_METADATA).is_file() or "Dense" not in module_kinds(path):
        from safetensors import safe_open

        for file in sorted(path.glob("*.safetensors")):
            with safe_open(file, "pt") as tensors:
                if "linear.weight" in tensors.keys():  # noqa: SIM118  # it is not a mapping
                    return [(tensors.get_tensor("linear.weight").float().to(placement.device), None, False)]
        raise UnusableModel(
            f"The weights in {path} have no linear.weight, so the model is not a ColBERT model."
        )
    return [dense_layer(path / Path(name).name, placement) for name in module_kinds(path)["Dense"]]
