"""The measurements of a training's steps as a table."""

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
    """CSV with a row for each step; cells are empty where a step did not measure."""
    out = io.StringIO()
    writer = csv.DictWriter(out, METRIC_COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(metrics)
    return out.getvalue().encode()
