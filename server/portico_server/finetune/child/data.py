"""The job's files as data sets, in the form that each method's trainer takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset

from .conversation import Example, Template

Row = dict[str, Any]


def supervised(path: Path, template: Template, longest: int) -> Dataset:
    """Columns ``input_ids`` and ``labels``, cut at ``longest`` tokens; examples with nothing to learn are left out."""

    def rows() -> Iterator[Row]:
        for line in _lines(path):
            for example in template.supervised(line["messages"], line.get("tools")):
                cut = Example(example.input_ids[:longest], example.labels[:longest])
                if cut.learnt:
                    yield {"input_ids": cut.input_ids, "labels": cut.labels}

    return _dataset(rows)


def pairs(path: Path, template: Template, longest: int) -> Dataset:
    """Columns ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``; too long prompts are left out."""

    def rows() -> Iterator[Row]:
        for line in _lines(path):
            tools = line.get("tools")
            prompt = template.ids(template.text(line["prompt"], tools, answer=True))
            chosen = template.ids(template.completion(line["prompt"], line["chosen"], tools))
            rejected = template.ids(template.completion(line["prompt"], line["rejected"], tools))
            if len(prompt) < longest:
                yield {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}

    return _dataset(rows)


def prompts(path: Path, template: Template, longest: int) -> Dataset:
    """Columns ``prompt``, as the model reads it, and ``item``: what graders see of the line, as JSON text."""

    def rows() -> Iterator[Row]:
        for line in _lines(path):
            prompt = template.text(line["prompt"], line.get("tools"), answer=True)
            if len(template.ids(prompt)) < longest:
                yield {"prompt": prompt, "item": json.dumps(line.get("item") or {}, ensure_ascii=False)}

    return _dataset(rows)


def longest_example(data: Dataset) -> Row:
    """The row with the most tokens, which shows what a step may take."""
    sizes = [sum(len(value) for value in row.values()) for row in data]
    row: Row = data[max(range(len(sizes)), key=sizes.__getitem__)]
    return row


def _dataset(rows: Callable[[], Iterator[Row]]) -> Dataset:
    found = list(rows())
    if not found:
        raise ValueError("no example has anything left to learn within the length that training takes")
    return Dataset.from_list(found)


def _lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)
