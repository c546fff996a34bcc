"""The prompts included with Portico, in English and Chinese: the prompts that Portico itself sends to models, and
others.

Each YAML file in this folder is a list of tasks. A task has ``name``, ``title``, ``description``, ``arguments``, and
for each language ``system``, ``user`` and ``cases``. The library lists them as ``portico/NAME`` and
``portico/NAME.zh``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

from portico_server.core.prompts.spec import PromptSpec, parse
from portico_server.core.request import Message
from portico_server.core.template import fill
from portico_server.core.untrusted_yaml import read_yaml

PREFIX: Final = "portico/"
"""Prefix of the built-in prompts' names in the library."""

ORIGIN: Final = "portico"
"""Origin of the built-in prompts, as shown in the library."""

LANGUAGES: Final[Mapping[str, tuple[str, str]]] = {"en": ("", ""), "zh": (".zh", " In Chinese.")}
"""Maps each language to the suffixes of a prompt's name and description."""

_GROUPS: Final = ("search", "documents", "agents", "writing", "judging")
_NAME: Final = re.compile(r"^- name: (\S+)$", re.MULTILINE)


def every() -> tuple[PromptSpec, ...]:
    """Return all built-in prompts, with their names in the library."""
    return tuple(spec for group in _GROUPS for spec in _group(group).values())


def prompt(name: str) -> PromptSpec:
    """Return a prompt by the name of its task, with the suffix ``.zh`` for Chinese. Raises `KeyError`."""
    return _group(_places()[name.removesuffix(".zh")])[name]


def messages(name: str, **arguments: Any) -> tuple[Message, ...]:
    """Return the messages of a prompt with its arguments filled in."""
    return prompt(name).render(arguments)


def text(name: str, **arguments: Any) -> str:
    """Return the text of a prompt's last message, which is the user's."""
    return str(messages(name, **arguments)[-1]["content"])


def system(name: str, **arguments: Any) -> str:
    """Return the system message of a prompt, with ``arguments`` filled in."""
    spec = prompt(name)
    values = {item.name: str(item.default) for item in spec.arguments if item.default is not None}
    values |= {key: str(value) for key, value in arguments.items()}
    return "\n\n".join(fill(turn.template, values) for turn in spec.messages if turn.role == "system")


@cache
def _places() -> dict[str, str]:
    """Return the group of each task, found without parsing the files."""
    return {name: group for group in _GROUPS for name in _NAME.findall(_source(group))}


@cache
def _group(group: str) -> dict[str, PromptSpec]:
    tasks = read_yaml(_source(group))
    return {name: spec for task in tasks for name, spec in _specs(task)}


def _specs(task: Mapping[str, Any]) -> Iterator[tuple[str, PromptSpec]]:
    for language, (suffix, remark) in LANGUAGES.items():
        task_texts = task[language]
        name = f"{task['name']}{suffix}"
        turns = [
            {"role": role, "content": task_texts[role]} for role in ("system", "user") if role in task_texts
        ]
        yield (
            name,
            parse(
                {
                    "name": f"{PREFIX}{name}",
                    "title": task["title"],
                    "description": f"{task['description']}{remark}",
                    "arguments": task["arguments"],
                    "messages": turns,
                    "cases": task_texts["cases"],
                },
                name,
            ),
        )


def _source(group: str) -> str:
    return files(__package__).joinpath(f"{group}.yaml").read_text(encoding="utf-8")
