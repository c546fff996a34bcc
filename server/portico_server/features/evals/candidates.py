"""The changes to an app that an improvement tries. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.db.evals import ItemRow
from portico_server.features.apps.app_variants import AppParts

Part: TypeAlias = Literal["format", "prompt", "tool", "retrieval", "chunker", "document", "model"]

PARTS: Final[tuple[Part, ...]] = ("format", "prompt", "tool", "retrieval", "chunker", "document", "model")
"""The parts that can fail. The part whose change is smallest comes first."""

PLAIN_PROMPT: Final = (
    "Answer the question briefly and exactly. If there are passages, answer only from the passages."
)
"""The instructions that an app is tried with beside those of its versions."""

MAX_PROMPTS: Final = 4
"""Maximum number of texts tried for one prompt."""

MAX_EXAMPLES: Final = 4
"""Maximum number of cases that a change shows to the model as examples."""

CHUNKERS: Final = ("paragraph", "sentence")
"""The chunkers to try."""

RANKERS: Final = ("lexical", "hybrid", "vector")

DEFAULT_TOP_K: Final = 10


@dataclass(frozen=True, slots=True)
class Candidate:
    """A change to try. ``changes`` maps places in the specification of the app to new values; ``text`` describes the
    change for people.
    """

    part: Part
    text: str
    changes: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The name of the candidate's trials."""
        document = json.dumps(self.changes, sort_keys=True)
        return f"{self.part} {hashlib.sha256(document.encode()).hexdigest()[:12]}"


def of_prompts(parts: AppParts) -> Iterator[Candidate]:
    """Yield the prompts of other versions, and a plain one, each instead of the current one."""
    for place, (current, *older_texts) in parts.prompts.items():
        for text in [*older_texts[: MAX_PROMPTS - 1], PLAIN_PROMPT]:
            if text != current:
                source = "a plain prompt" if text == PLAIN_PROMPT else "the prompt of another version"
                yield Candidate("prompt", f"{place}: {source}", {place: text})


def of_searches(parts: AppParts) -> Iterator[Candidate]:
    """Yield other settings of each search: more passages, and other rankers."""
    for at, fields in parts.searches.items():
        top_k = int(fields.get("top_k") or DEFAULT_TOP_K)
        changed_settings: list[tuple[str, Any]] = [
            ("top_k", 2 * top_k),
            *(("ranker", ranker) for ranker in RANKERS if ranker != fields.get("ranker")),
        ]
        for name, value in changed_settings:
            yield Candidate("retrieval", f"{at}{name}: {value}", {f"{at}{name}": value})


def of_chunker(parts: AppParts, chunker: str) -> Candidate:
    """Return the change of all searches to the group of chunks of another chunker."""
    groups = {f"{at}groups": [group_name(chunker)] for at in parts.searches}
    return Candidate("chunker", f"{', '.join(groups)}: chunks by '{chunker}'", groups)


def group_name(chunker: str) -> str:
    """Return the name of the group of chunks that improvements add to stores for a chunker."""
    return f"improve-{chunker}"


def of_model(parts: AppParts, model: str) -> Candidate:
    """Return the change to another model, at all places."""
    return Candidate("model", f"the model '{model}'", dict.fromkeys(parts.models, model))


def of_examples(parts: AppParts, cases: Sequence[ItemRow]) -> Candidate | None:
    """Return the change that shows answers to the model as examples, or ``None`` if no prompt has room for them."""
    examples = [
        message
        for case in cases[:MAX_EXAMPLES]
        if isinstance(case.item.get("answer"), str)
        for message in (
            {"role": "user", "content": case.item["question"]},
            {"role": "assistant", "content": case.item["answer"]},
        )
    ]
    if not examples or not parts.examples:
        return None
    place = parts.examples[-1]
    return Candidate("format", f"{place}: {len(examples) // 2} answers as examples", {place: examples})


def of_tools(parts: AppParts, cases: Sequence[ItemRow], descriptions: Mapping[str, str]) -> Candidate | None:
    """Return the change that adds questions to the ``descriptions`` of the tools that answer them, or ``None`` if the
    app has none of these tools.
    """
    questions: dict[str, list[str]] = {}
    for case in cases:
        questions.setdefault(case.item["tool"]["name"], []).append(case.item["question"])
    changes = {}
    for name, tool_questions in questions.items():
        if name in parts.tools:
            place, entry = parts.tools[name]
            examples = "".join(f"\n- {question}" for question in tool_questions[:MAX_EXAMPLES])
            description = f"{descriptions.get(name, '')}\nUse it for questions such as:{examples}".strip()
            changes[place] = {**entry, "description": description}
    if not changes:
        return None
    return Candidate("tool", f"{', '.join(changes)}: a description with questions as examples", changes)
