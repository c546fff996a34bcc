"""Training of search models: embedding models with InfoNCE, rerankers with binary cross-entropy, both validated with
held-out questions.

A. van den Oord et al. 2018, https://arxiv.org/abs/1807.03748; the answers to the other questions of a step serve as
negatives.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel, TaskType, get_peft_model
from transformers import AutoModel, AutoModelForSequenceClassification, Trainer, TrainingArguments

from . import checkpoints, watch
from .arguments import common_arguments
from .daemon import DaemonLink, TrainingOrder
from .pooling import pool, pooling_of, prompt_of

RETRIEVAL_TASKS: dict[str, tuple[Any, Any]] = {
    "embedding": (AutoModel, TaskType.FEATURE_EXTRACTION),
    "rerank": (AutoModelForSequenceClassification, TaskType.SEQ_CLS),
}
"""Maps each method to the model class and the adapter's task type."""

TEMPERATURE_RATIO = 0.05
"""The temperature by which cosine similarities are divided."""

MEASURE_BATCH_SIZE = 32
"""Number of texts computed together outside training."""

NDCG_RANK_COUNT = 10
RECALL_RANK_COUNT = 5

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".onnx", ".gguf", ".msgpack", ".h5", ".ot")

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file, one question per row."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def ranking_measures(relevant: Sequence[Sequence[bool]]) -> dict[str, float]:
    """Return the mean nDCG@10 and recall@5 over questions; each question is a ranking of relevance flags."""
    gains, recalls = [], []
    for ranking in relevant:
        relevant_count = sum(ranking)
        best = sum(1 / math.log2(rank + 2) for rank in range(min(relevant_count, NDCG_RANK_COUNT)))
        gain = sum(1 / math.log2(rank + 2) for rank, good in enumerate(ranking[:NDCG_RANK_COUNT]) if good)
        gains.append(gain / best)
        recalls.append(sum(ranking[:RECALL_RANK_COUNT]) / relevant_count)
    return {"ndcg_10": sum(gains) / len(gains), "recall_5": sum(recalls) / len(recalls)}


class _Embedding:
    """Computes questions and passages as vectors."""

    def __init__(self, order: TrainingOrder, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._longest = order.recipe["max_length"]
        self._pooling = pooling_of(order.model)
        self._prompt = prompt_of(order.model)

    def batch(self, rows: list[Row]) -> dict[str, Any]:
        """Return all questions, then all answers, then the negatives. ``hidden`` masks the answers that are also
        correct for other questions.
        """
        answers = [row["positives"][0] for row in rows]
        texts = answers + [text for row in rows for text in row["negatives"]]
        hidden = [
            [place != number and text in row["positives"] for place, text in enumerate(texts)]
            for number, row in enumerate(rows)
        ]
        batch = self._read([row["query"] for row in rows] + texts)
        return {**batch, "hidden": torch.tensor(hidden)}

    def loss(self, model: Any, batch: dict[str, Any]) -> Any:
        hidden = batch.pop("hidden")
        vectors = self._vectors(model, batch)
        queries, texts = vectors[: len(hidden)], vectors[len(hidden) :]
        scores = (queries @ texts.T / TEMPERATURE_RATIO).masked_fill(hidden, float("-inf"))
        return torch.nn.functional.cross_entropy(scores, torch.arange(len(hidden), device=scores.device))

    def measure(self, model: Any, rows: list[Row]) -> dict[str, float]:
        """Return the measures of ranking the passages of all questions for each question."""
        texts = sorted({text for row in rows for text in (*row["positives"], *row["negatives"])})
        queries, passages = (
            self._embed_all(model, [row["query"] for row in rows]),
            self._embed_all(model, texts),
        )
        order = (queries @ passages.T).argsort(dim=1, descending=True).tolist()
        return ranking_measures(
            [
                [texts[place] in row["positives"] for place in places]
                for row, places in zip(rows, order, strict=True)
            ]
        )

    def _embed_all(self, model: Any, texts: list[str]) -> Any:
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        vectors: list[Any] = [None] * len(texts)
        for begin in range(0, len(order), MEASURE_BATCH_SIZE):
            places = order[begin : begin + MEASURE_BATCH_SIZE]
            batch = {
                name: value.to(model.device) for name, value in self._read([texts[p] for p in places]).items()
            }
            for place, vector in zip(places, self._vectors(model, batch), strict=True):
                vectors[place] = vector.cpu()
        return torch.stack(vectors)

    def _read(self, texts: list[str]) -> dict[str, Any]:
        return dict(
            self._tokenizer(
                [self._prompt + text for text in texts],
                padding=True, truncation=True, max_length=self._longest, return_tensors="pt",
            )
        )  # fmt: skip

    def _vectors(self, model: Any, batch: dict[str, Any]) -> Any:
        states = model(**batch).last_hidden_state.float()
        return torch.nn.functional.normalize(pool(states, batch["attention_mask"], self._pooling), dim=1)


class _Rerank:
    """Scores pairs of a question and a passage."""

    def __init__(self, order: TrainingOrder, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._longest = order.recipe["max_length"]

    def batch(self, rows: list[Row]) -> dict[str, Any]:
        pairs = [(row["query"], text, 1.0) for row in rows for text in row["positives"][:1]]
        pairs += [(row["query"], text, 0.0) for row in rows for text in row["negatives"]]
        batch = self._read([query for query, _, _ in pairs], [text for _, text, _ in pairs])
        return {**batch, "right": torch.tensor([right for _, _, right in pairs])}

    def loss(self, model: Any, batch: dict[str, Any]) -> Any:
        right = batch.pop("right")
        return torch.nn.functional.binary_cross_entropy_with_logits(self._scores(model, batch), right)

    def measure(self, model: Any, rows: list[Row]) -> dict[str, float]:
        """Return the measures of ranking each question's own passages. Negatives come first, so that equal scores earn
        nothing.
        """
        rankings = []
        for row in rows:
            texts = [*row["negatives"], *row["positives"]]
            batch = self._read([row["query"]] * len(texts), texts)
            scores = self._scores(
                model, {name: value.to(model.device) for name, value in batch.items()}
            ).tolist()
            order = sorted(range(len(texts)), key=lambda place: -scores[place])
            rankings.append([place >= len(row["negatives"]) for place in order])
        return ranking_measures(rankings)

    def _read(self, queries: list[str], texts: list[str]) -> dict[str, Any]:
        return dict(
            self._tokenizer(
                queries, texts, padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
            )
        )

    def _scores(self, model: Any, batch: dict[str, Any]) -> Any:
        return model(**batch).logits.float()[:, 0]


class _RetrievalTrainer(Trainer):  # type: ignore[misc]  # transformers has no types
    """A trainer that uses the method's loss, and validates with rankings of held-out questions instead of a loss."""

    def __init__(
        self, kind: Any, held_back: list[Row], monitor: watch.TrainingMonitor, **trainer_arguments: Any
    ) -> None:
        super().__init__(**trainer_arguments)
        self._kind, self._held_back, self._monitor = kind, held_back, monitor

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Any:
        self._monitor.tokens += int(inputs["attention_mask"].sum())
        return self._kind.loss(model, dict(inputs))

    def measure(self) -> dict[str, float]:
        """Return the current measures of the model. All processes return the same values."""
        model = self.model_wrapped if self.is_fsdp_enabled else self.model
        with learning_nothing(model):
            measures: dict[str, float] = self._kind.measure(model, self._held_back)
        return measures

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        measures = {f"eval_{key}": value for key, value in self.measure().items()}
        self.log(measures)
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, measures)
        return measures


@contextmanager
def learning_nothing(model: Any) -> Iterator[None]:
    """Disable gradients and dropout within the block."""
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was)


class RetrievalFactory:
    """Prepares a training run for search models: tokenizer, data sets and trainer."""

    def __init__(self, order: TrainingOrder, voice: DaemonLink, tokenizer: Any) -> None:
        tokenizer.padding_side = "right"
        self.order, self.tokenizer = order, tokenizer
        self.watch = watch.TrainingMonitor(order, voice)
        self.training = read_rows(order.training)
        self.held_back = read_rows(order.validation) if order.validation else []
        self._voice = voice
        kinds: dict[str, Any] = {"embedding": _Embedding, "rerank": _Rerank}
        self._kind = kinds[order.method](order, tokenizer)
        self._before_path = order.folder / "before.json"

    def measure_base(self, model: Any) -> None:
        """Measure the base model, but only once, because later attempts start with the weights of a checkpoint."""
        if self.order.method == "rerank" and model.config.num_labels != 1:
            raise ValueError(
                f"'{self.order.name}' has {model.config.num_labels} output classes, but a reranker must have "
                "a single score"
            )
        if self._before_path.is_file() or not self.held_back:
            return
        self._voice.send(
            "stage", stage="measure", message="Measuring the base model on the held-out questions"
        )
        if self.order.recipe["device"] == "cuda":
            model.to("cuda")
        with learning_nothing(model):
            measures = self._kind.measure(model, self.held_back)
        if self._voice.first:
            draft = self._before_path.with_suffix(".new")
            draft.write_text(json.dumps(measures), encoding="utf-8")
            draft.replace(self._before_path)
        words = f"nDCG@10 {measures['ndcg_10']:.3f}, recall@5 {measures['recall_5']:.3f}"
        self._voice.send("say", level="info", message=f"The base on {len(self.held_back)} questions: {words}")

    def trial(self, model: Any) -> Callable[[int], None]:
        """Return a function that computes and discards a gradient for a number of copies of the longest example."""
        longest = max(
            self.training, key=lambda row: sum(map(len, (row["query"], *row["positives"], *row["negatives"])))
        )

        def step(count: int) -> None:
            batch = self._kind.batch([longest] * count)
            model.train()
            self._kind.loss(model, {name: value.to(model.device) for name, value in batch.items()}).backward()
            model.zero_grad(set_to_none=True)

        return step

    def trainer(self, model: Any, lora: Any, micro_batch: int, accumulation: int) -> Any:
        """Return the trainer, ready to train ``model``."""
        common = common_arguments(self.order, micro_batch, accumulation, is_validated=bool(self.held_back))
        return _RetrievalTrainer(
            self._kind,
            self.held_back,
            self.watch,
            model=get_peft_model(model, lora) if lora is not None else model,
            args=TrainingArguments(**common),
            train_dataset=Dataset.from_list(self.training),
            eval_dataset=Dataset.from_list(self.held_back) if self.held_back else None,
            data_collator=self._kind.batch,
            callbacks=[self.watch],
        )

    def write(self, trainer: Any, dtype: torch.dtype) -> dict[str, float]:
        """Write the complete model, together with the other files from the base model's folder; return the
        measurements before and after training.
        """
        order = self.order
        draft = order.adapter.with_suffix(".new")
        model = trainer.model
        measures: dict[str, float] = {}
        if self.held_back:
            after = trainer.measure()
            before = json.loads(self._before_path.read_text(encoding="utf-8"))
            measures = {**after, **{f"base_{key}": value for key, value in before.items()}}
            measures["held_back_questions"] = float(len(self.held_back))
        if isinstance(model, PeftModel):
            if trainer.is_world_process_zero():
                model.merge_and_unload().to(dtype).save_pretrained(draft)
        else:
            if not trainer.is_fsdp_enabled:
                model.to(dtype)  # training used 32 bits
            trainer.save_model(str(draft))
        if trainer.is_world_process_zero():
            for path in order.model.rglob("*"):
                target_path = draft / path.relative_to(order.model)
                if path.is_file() and path.suffix not in _WEIGHTS and not target_path.exists():
                    if path.name.endswith(".index.json") or path.name.startswith("."):
                        continue
                    target_path.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, target_path)
            checkpoints.finish(draft, order.adapter)
        return measures
