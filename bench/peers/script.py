"""What the scripted model answers: a function of the conversation alone.

A right request of any framework gets a right answer. Each framework words its prompts in its own way, so what is looked
at is what all of them have to send: the user's text, the instructions of the task, the tools, the schema of the answer,
what tools have answered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

INTENTS = {"billing": "charged twice", "repair": "does not start", "chat": "Good morning"}
"""The intents of the task ``routing`` and the words by which the model knows them."""

FACTS = {
    "At how many degrees": (r"baked at (\d+) degrees", r"Bread is baked at \1 degrees."),
    "How many mooncakes": (r"(\d+) mooncakes", r"\1 mooncakes are made a day."),
    "When does the bakery close": (r"closes at (\w+)", r"The bakery closes at \1."),
}
"""What the task ``folder`` asks: how the question begins, where a passage says it, and the answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says, or the tools that it calls, each with its arguments."""

    content: str = ""
    calls: Sequence[tuple[str, Mapping[str, Any]]] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Talk:
    """A request, as the rules look at it."""

    messages: Sequence[Mapping[str, Any]]
    tools: Mapping[str, Mapping[str, Any]]
    schema: Mapping[str, Any] | None
    forced: bool

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Talk:
        """Read a body of ``/v1/chat/completions``."""
        functions = [tool["function"] for tool in body.get("tools") or () if tool.get("type") == "function"]
        format_ = body.get("response_format") or {}
        choice = body.get("tool_choice")
        return cls(
            body.get("messages") or [],
            {one["name"]: one.get("parameters") or {} for one in functions},
            format_.get("json_schema", {}).get("schema"),
            choice == "required" or isinstance(choice, Mapping),
        )

    @property
    def system(self) -> str:
        """The instructions."""
        return "\n".join(text(one) for one in self.messages if one.get("role") in ("system", "developer"))

    @property
    def all(self) -> str:
        """Everything that was written, by whomever."""
        return "\n".join(text(one) for one in self.messages)

    @property
    def user(self) -> str:
        """What the user said last."""
        said = [text(one) for one in self.messages if one.get("role") == "user"]
        return said[-1] if said else ""

    @property
    def users(self) -> str:
        """All that the user has said."""
        return "\n".join(text(one) for one in self.messages if one.get("role") == "user")

    @property
    def results(self) -> Sequence[str]:
        """What tools have answered."""
        return [text(one) for one in self.messages if one.get("role") in ("tool", "function")]

    def tool(self, word: str) -> str:
        """The name of the tool that has ``word`` in it; empty if there is none."""
        return next((name for name in self.tools if word in name.lower()), "")


def text(message: Mapping[str, Any]) -> str:
    """The text of a message, also where it is a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or () if isinstance(part, Mapping))


def answer(body: Mapping[str, Any]) -> Reply:
    """What the first rule that knows the conversation answers to a body of ``/v1/chat/completions``."""
    talk = Talk.of(body)
    for rule in RULES:
        reply = rule(talk)
        if reply is not None:
            return reply
    return Reply("I do not know.")


def _structured(talk: Talk, value: Mapping[str, Any]) -> Reply:
    """A value in the form that was asked for: by a forced tool, by a schema, or as JSON in the text."""
    if talk.tools and (talk.forced or len(talk.tools) == 1):
        return Reply(calls=[(next(iter(talk.tools)), value)])
    return Reply(json.dumps(value, ensure_ascii=False))


def invoice(talk: Talk) -> Reply | None:
    """Task ``extraction``: the fields of an invoice."""
    found = re.search(r"Invoice (\S+)\nfrom (.+)\n(?:.*\n)*?Total: ([\d.]+) (\w+)", talk.user)
    if found is None:
        return None
    value = {"number": found[1], "seller": found[2], "total": float(found[3]), "currency": found[4]}
    return _structured(talk, value)


def stock(talk: Talk) -> Reply | None:
    """Task ``agent``: two tools are asked, one after the other, and their answers multiplied."""
    if "sell all the rye" not in talk.all:
        return None
    numbers = [found[0] for one in talk.results if (found := re.findall(r"\d+(?:\.\d+)?", one))]
    if not talk.tools:
        return _react(talk)
    if not numbers:
        return Reply(calls=[(talk.tool("stock"), {"item": "rye"})])
    if len(numbers) == 1:
        return Reply(calls=[(talk.tool("price"), {"item": "rye"})])
    return Reply(f"All the rye bread brings in {float(numbers[0]) * float(numbers[1]):g} euros.")


def _react(talk: Talk) -> Reply:
    """The same for who calls tools by text: an object with the action, until both answers stand in the conversation."""
    after = talk.all.split("sell all the rye")[-1]
    found = {
        name: re.search(rf"{word}\D{{0,20}}?(\d+(?:\.\d+)?)", after)
        for name, word in (("stock", "in stock:"), ("price", "price:"))
    }
    for name, number in found.items():
        if number is None:
            shown = re.search(rf'"name": "({name})"', talk.all, re.IGNORECASE)
            action = {"name": shown[1] if shown else name, "parameters": {"item": "rye"}}
            return Reply(json.dumps({"thought_process": f"I need the {name}.", "action": action}))
    total = float(found["stock"][1]) * float(found["price"][1])  # type: ignore[index]
    said = f"All the rye bread brings in {total:g} euros."
    return Reply(json.dumps({"thought_process": "I have both.", "conclusion": said}))


def route(talk: Talk) -> Reply | None:
    """Task ``routing``: first the intent, then the answer of whoever is in charge of it."""
    wish = next((name for name, words in INTENTS.items() if words in talk.user), None)
    if wish is None:
        return None
    if found := re.search(r"You answer for (\w+)", talk.all):
        return Reply(f"Answered by {found[1]}.")
    offered = talk.all + json.dumps(talk.tools) + json.dumps(talk.schema)
    if not all(name in offered for name in INTENTS):
        return None
    if number := re.search(rf"\((\d)\) {wish}", talk.all):
        return Reply(json.dumps([{"choice": int(number[1]), "reason": "It is about that."}]))
    schema = talk.schema or (next(iter(talk.tools.values())) if talk.tools else None)
    if schema is None:
        return Reply(wish)
    return _structured(talk, {next(iter(schema["properties"])): wish})


def branch(talk: Talk) -> Reply | None:
    """Task ``summary``: one sentence of each report, and the sum of all sentences."""
    sums = re.findall(r"Branch (\d+) sold (\d+) loaves\.", talk.user)
    if sums:
        return Reply(f"{len(sums)} branches sold {sum(int(one[1]) for one in sums)} loaves.")
    if found := re.search(r"Report of branch (\d+)(?:.|\n)*?(\d+) loaves", talk.user):
        return Reply(f"Branch {found[1]} sold {found[2]} loaves.")
    return None


def ferry(talk: Talk) -> Reply | None:
    """Task ``handoff``: the desk hands over to tickets, which asks for the price and answers."""
    wish = re.search(r"(two) tickets to the island", talk.all, re.IGNORECASE)
    if wish is None:
        return None
    if fare := talk.tool("fare"):
        paid = next((one for one in talk.results if "euros" in one and "fare" in one), None)
        if paid is None:
            return Reply(calls=[(fare, {"people": 2})])
        return Reply(f"Two tickets to the island: {_number(paid)} euros.")
    over = talk.tool("transfer") or talk.tool("handoff") or talk.tool("hand_off")
    return Reply(calls=[(over, _arguments(talk.tools[over]))]) if over else None


def _number(said: str) -> str:
    return re.findall(r"\d+", said)[0]


def _arguments(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What a hand-over is called with, by the names in its schema."""
    known = {"to_agent": "tickets", "agent": "tickets", "reason": "They sell tickets."}
    return {
        name: known.get(name, "Two tickets to the island, please.") for name in schema.get("properties", {})
    }


def friend(talk: Talk) -> Reply | None:
    """Task ``memory``: what was said before is known if it is in the conversation."""
    if "You are a friend." not in talk.all:
        return None
    if "What is my name" in talk.user:
        name = re.search(r"My name is (\w+)", talk.all)
        bread = re.search(r"I like (\w+) bread", talk.all)
        if name and bread:
            return Reply(f"You are {name[1]}, and you like {bread[1]} bread.")
        return Reply("You have not told me.")
    return Reply("I shall remember that.")


def refund(talk: Talk) -> Reply | None:
    """Task ``approval``: money is paid back by a tool, and what it answered is said."""
    if "mug" not in talk.all or not talk.tool("refund"):
        return None
    if paid := next((one for one in talk.results if "refunded" in one.lower()), None):
        return Reply(f"Sorry! {_number(paid)} euros come back to you.")
    return Reply(calls=[(talk.tool("refund"), {"customer": "Ada", "amount": 12})])


def order(talk: Talk) -> Reply | None:
    """Task ``order``: an order is read, confirmed, and a letter about it written."""
    if "12 rye breads" not in talk.users:
        return None
    if "Read the order" in talk.all:
        return Reply("12 rye breads for the school")
    if "Confirm the order" in talk.all:
        return Reply("Confirmed: 12 rye breads for the school")
    if "Write the letter" in talk.all:
        return Reply("Your 12 rye breads are on the way.")
    return None


def judge(talk: Talk) -> Reply | None:
    """Task ``rerank``: passages are graded; the one that says that there is no yeast in it is the best."""
    if "without yeast" not in talk.all or not re.search(r"relevan|grade|rank|judge", talk.all, re.IGNORECASE):
        return None
    if "properties" in (talk.schema or {}) and "grade" in talk.schema["properties"]:
        return Reply(json.dumps({"grade": _grade(talk.user)}))
    shown = _passages(talk)
    if not shown:
        return None
    grades = {number: _grade(said) for number, said in shown.items()}
    best = sorted(grades, key=lambda number: -grades[number])
    schema = talk.schema or (next(iter(talk.tools.values())) if talk.tools else None)
    if schema is None:
        return Reply("\n".join(f"Doc: {number}, Relevance: {grades[number]}" for number in best))
    name, inner = next(iter(schema["properties"].items()))
    return _structured(talk, {name: _listed(inner, schema, best, grades)})


def _passages(talk: Talk) -> dict[int, str]:
    """The passages in a prompt, by the numbers that they have there."""
    pieces = re.split(r"(?:^|\n)Document(?: ID:)? (\d+):?", talk.all)
    return {
        int(number): said for number, said in zip(pieces[1::2], pieces[2::2], strict=False) if said.strip()
    }


def _grade(said: str) -> int:
    return 10 if "no yeast" in said else 5 if "yeast" in said else 1


def _listed(
    inner: Mapping[str, Any], schema: Mapping[str, Any], best: Sequence[int], grades: Mapping[int, int]
) -> Any:
    items = inner.get("items", {})
    if "$ref" in items:
        items = schema["$defs"][items["$ref"].rsplit("/", 1)[-1]]
    if "properties" not in items:
        return list(best)
    number, grade = list(items["properties"])[:2]
    return [{number: one, grade: grades[one]} for one in best]


def passage(talk: Talk) -> Reply | None:
    """Task ``folder``: a question is answered from the passages in the prompt, if they say it."""
    asked = next((name for name in FACTS if name in talk.user), None)
    if asked is None:
        return None
    pattern, said = FACTS[asked]
    found = re.search(pattern, talk.all)
    cited = re.search(rf"\[(\d+)\](?:(?!\[\d+\]).)*{pattern}", talk.all, re.DOTALL)
    if found is None:
        return Reply("The documents do not say it.")
    return Reply(found.expand(said)[:-1] + (f" [{cited[1]}]." if cited else "."))


RULES = (order, invoice, stock, route, branch, ferry, friend, refund, judge, passage)
