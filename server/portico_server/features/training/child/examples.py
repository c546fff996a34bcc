"""The job's files as data sets, and conversations as token ids in the model's chat template."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOTrainer, GRPOTrainer

# Conversations become token ids with the template that the model is served with; labels mark the tokens to
# learn. Only an assistant's messages are learned, including the end-of-turn token. If the template writes
# earlier turns differently from the last (for example, without reasoning), a conversation becomes one example
# per turn.


IGNORED_LABEL_CODE = -100
"""The label of a token that is not learned."""

Message = dict[str, Any]


@dataclass(frozen=True)
class TokenizedExample:
    """Token ids and their labels: the same ids, or `IGNORED_LABEL_CODE` for tokens that are not learned."""

    input_ids: list[int]
    labels: list[int]

    @property
    def learnt(self) -> int:
        return sum(label != IGNORED_LABEL_CODE for label in self.labels)


class ChatTemplate:
    """Formats and parses conversations for ``tokenizer``."""

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer.chat_template is None:
            raise ValueError("the model has no chat template, so the format of conversations is unknown")
        self._tokenizer = tokenizer

    def text(self, messages: list[Message], tools: list[Any] | None = None, *, answer: bool = False) -> str:
        """Return the conversation as the model reads it; with ``answer``, it ends where the model begins to answer."""
        text: str = self._tokenizer.apply_chat_template(
            [_plain(message) for message in messages],
            tools=tools or None,
            tokenize=False,
            add_generation_prompt=answer,
        )
        return text

    def ids(self, text: str) -> list[int]:
        """Return the token ids of a text. No special tokens are added, because the template has already written
        them.
        """
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def completion(self, prompt: list[Message], answer: list[Message], tools: list[Any] | None) -> str:
        """Return the text of ``answer`` that follows the prompt, up to its end-of-turn token."""
        before = self.text(prompt, tools, answer=True)
        full_text = self.text([*prompt, *answer], tools)
        begin = len(before) if full_text.startswith(before) else len(_common(before, full_text))
        return full_text[begin : begin + self._end(full_text[begin:])]

    def supervised(self, messages: list[Message], tools: list[Any] | None) -> Iterator[TokenizedExample]:
        """Yield the examples of a conversation, except examples without tokens to learn."""
        turns = [place for place, message in enumerate(messages) if message.get("role") == "assistant"]
        if not turns:
            return
        full_text = self.text(messages[: turns[-1] + 1], tools)
        spans: list[tuple[int, int]] = []
        single_turns: list[tuple[str, tuple[int, int]]] = []
        for place in turns:
            before = self.text(messages[:place], tools, answer=True)
            after = self.text(messages[: place + 1], tools)
            begin = len(before) if after.startswith(before) else len(_common(before, after))
            span = (begin, begin + self._end(after[begin:]))
            if messages[place].get("weight", 1) != 0:
                spans.append(span)
                single_turns.append((after[: span[1]], span))
            if not full_text.startswith(after[: span[1]]):
                full_text = ""
        if full_text and spans:
            yield self._labelled(full_text[: spans[-1][1]], spans)
        else:
            for text, span in single_turns:
                yield self._labelled(text, [span])

    def _end(self, text: str) -> int:
        """Return the number of characters up to the end-of-turn token, which the template may follow with a newline."""
        mark = self._tokenizer.eos_token or ""
        place = text.rfind(mark) if mark else -1
        return len(text) if place < 0 else place + len(mark)

    def _labelled(self, text: str, spans: list[tuple[int, int]]) -> TokenizedExample:
        encoding = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = encoding["input_ids"]
        labels = [IGNORED_LABEL_CODE] * len(ids)
        current = 0
        for place, (begin, end) in enumerate(encoding["offset_mapping"]):
            while current < len(spans) and begin >= spans[current][1]:
                current += 1
            # All tokens of a multi-token character have the same offsets; an empty span contains no text.
            if current < len(spans) and begin >= spans[current][0] and end > begin:
                labels[place] = ids[place]
        return TokenizedExample(ids, labels)


def _plain(message: Message) -> Message:
    """Return a message without training fields and with merged text parts, as the daemon's engines accept it."""
    fields = {name: value for name, value in message.items() if name != "weight"}
    content = fields.get("content")
    if isinstance(content, list):
        fields["content"] = "".join(part.get("text", "") for part in content)
    return fields


def _common(text: str, other_text: str) -> str:
    end = 0
    for char, right in zip(text, other_text, strict=False):
        if char != right:
            break
        end += 1
    return text[:end]


Row = dict[str, Any]


def supervised_examples(path: Path, template: ChatTemplate, longest: int) -> Dataset:
    """Return a data set with the columns ``input_ids`` and ``labels``, truncated to ``longest`` tokens. Examples
    without tokens to learn are skipped.
    """

    def rows() -> Iterator[Row]:
        for line in _lines(path):
            for example in template.supervised(line["messages"], line.get("tools")):
                cut = TokenizedExample(example.input_ids[:longest], example.labels[:longest])
                if cut.learnt:
                    yield {"input_ids": cut.input_ids, "labels": cut.labels}

    return _dataset(rows)


def preference_pairs(path: Path, template: ChatTemplate, longest: int) -> Dataset:
    """Return a data set with the columns ``prompt_ids``, ``chosen_ids`` and ``rejected_ids``. Examples with too long
    prompts are skipped.
    """

    def rows() -> Iterator[Row]:
        for line in _lines(path):
            tools = line.get("tools")
            prompt = template.ids(template.text(line["prompt"], tools, answer=True))
            chosen_ids = template.ids(template.completion(line["prompt"], line["chosen"], tools))
            rejected_ids = template.ids(template.completion(line["prompt"], line["rejected"], tools))
            if len(prompt) < longest:
                yield {"prompt_ids": prompt, "chosen_ids": chosen_ids, "rejected_ids": rejected_ids}

    return _dataset(rows)


def graded_prompts(path: Path, template: ChatTemplate, longest: int) -> Dataset:
    """Return a data set with the columns ``prompt``, in the model's format, and ``item``, the line that graders
    receive, as JSON text.
    """

    def rows() -> Iterator[Row]:
        for line in _lines(path):
            prompt = template.text(line["prompt"], line.get("tools"), answer=True)
            if len(template.ids(prompt)) < longest:
                yield {"prompt": prompt, "item": json.dumps(line.get("item") or {}, ensure_ascii=False)}

    return _dataset(rows)


def longest_example(data: Dataset) -> Row:
    """Return the row with the most tokens, which determines how much memory a step needs."""
    sizes = [sum(len(value) for value in row.values()) for row in data]
    row: Row = data[max(range(len(sizes)), key=sizes.__getitem__)]
    return row


def _dataset(rows: Callable[[], Iterator[Row]]) -> Dataset:
    examples = list(rows())
    if not examples:
        raise ValueError("no example contains anything to learn within the maximum length for training")
    return Dataset.from_list(examples)


def _lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


class Pairs(DPOTrainer):  # type: ignore[misc]  # trl has no types
    """A DPO trainer that uses Portico's token ids, which are made with the template that the model is served with."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


class Graded(GRPOTrainer):  # type: ignore[misc]
    """A GRPO trainer for prompts that the template has already formatted; it adds nothing before them."""

    def _tokenize_prompts(self, prompts: list[str]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return self.processing_class(prompts, add_special_tokens=False)["input_ids"], None, {}


Read = Callable[[Any, ChatTemplate, int], Dataset]

READERS: dict[str, Read] = {
    "supervised": supervised_examples,
    "dpo": preference_pairs,
    "reinforcement": graded_prompts,
}
"""Maps methods to the function that reads their files."""
