"""The metrics of the training steps as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any, Final

METRIC_COLUMNS: Final = (
    *("step", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "reward", "margin", "kl"),
    *("valid_ndcg_10", "valid_recall_5"),
    *("learning_rate", "tokens_per_second", "memory_bytes"),
)


def metrics_table(metrics: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the metrics as CSV, one row per step. A cell is empty where a step has no measurement."""
    out = io.StringIO()
    writer = csv.DictWriter(out, METRIC_COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(metrics)
    return out.getvalue().encode()
