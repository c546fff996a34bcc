"""Texts in the order in which they answer a question: a cross-encoder with one score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from .client import Client
from .embed import BATCH_TOKENS, batches, load
from .folder import Folder, check_weights
from .refusal import Refusal, Unfit
from .settings import Settings, place
from .turn import Turns


class Ranker:
    """The task ``rerank``."""

    def __init__(self, folder: Folder, settings: Settings) -> None:
        check_weights(folder.path)
        self._where = place(settings, generates=False)
        self._tokenizer = AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
        self._model = load(AutoModelForSequenceClassification, folder, self._where)
        if self._model.config.num_labels != 1:
            raise Unfit(
                f"The model in {folder.path} sorts texts into {self._model.config.num_labels} classes. A reranker has "
                "one score."
            )
        self._name = settings.name
        self._turns = Turns(settings.queue)
        self.context_length = settings.context_length or folder.context_length or 512
        self.dimensions = 0
        self.parameters = self._model.num_parameters()
        self.sees = False

    def posts(self) -> dict[str, Any]:
        return {"/v1/rerank": self.rank}

    def rank(self, body: Mapping[str, Any], client: Client) -> dict[str, Any]:
        """Scores in [0, 1], best first, in the shape of Jina and Cohere. A long document is cut, a question is not."""
        query, documents = body.get("query"), body.get("documents")
        if not isinstance(query, str) or not query:
            raise Refusal("'query' must be a text.", param="query")
        if not isinstance(documents, list) or not all(isinstance(text, str) for text in documents):
            raise Refusal("'documents' must be a list of texts.", param="documents")
        scores = [0.0] * len(documents)
        with self._turns.turn(client.gone), torch.inference_mode():
            # A tokenizer that is told to cut keeps that in mind, so it is not for two callers at a time.
            tokens = [self._pair(query, text) for text in documents]
            for places in batches([len(row["input_ids"]) for row in tokens], BATCH_TOKENS):
                client.check()
                for index, score in zip(
                    places, self._score([tokens[index] for index in places]), strict=True
                ):
                    scores[index] = score
        order = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.get("top_n") or None]
        count = sum(len(row["input_ids"]) for row in tokens)
        return {
            "object": "list",
            "model": self._name,
            "results": [{"index": index, "relevance_score": scores[index]} for index in order],
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }

    def _pair(self, query: str, text: str) -> dict[str, list[int]]:
        whole = self._tokenizer(query, text)
        if len(whole["input_ids"]) <= self.context_length:
            return dict(whole)
        alone = len(self._tokenizer(query, "")["input_ids"])
        if alone >= self.context_length:
            raise Refusal(
                f"The question has {alone} tokens, but '{self._name}' reads {self.context_length} with the document.",
                "context_length_exceeded",
                "query",
            )
        cut = self._tokenizer(query, text, truncation="only_second", max_length=self.context_length)
        return dict(cut)

    def _score(self, rows: list[dict[str, list[int]]]) -> list[float]:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        inputs = self._tokenizer.pad(columns, return_tensors="pt").to(self._where.device)
        found: list[float] = torch.sigmoid(self._model(**inputs).logits.float()[:, 0]).tolist()
        return found
