"""The scripted model's answers: a function of the conversation alone.

A correct request of any framework gets the correct answer. Each framework words its prompts in its own way, so the
rules look at what all frameworks must send: the user's text, the task's instructions, the tools, the schema of the
answer, and the tools' results.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

INTENTS = {"billing": "charged twice", "repair": "does not start", "chat": "Good morning"}
"""The intents of the task ``routing``, and the phrases by which the model recognises them."""

FACTS = {
    "At how many degrees": (r"baked at (\d+) degrees", r"Bread is baked at \1 degrees."),
    "How many mooncakes": (r"(\d+) mooncakes", r"\1 mooncakes are made a day."),
    "When does the bakery close": (r"closes at (\w+)", r"The bakery closes at \1."),
}
"""The questions of the task ``folder``: the start of the question, the pattern in a passage, and the answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The model's text, or the tools that it calls, each with its arguments."""

    content: str = ""
    calls: Sequence[tuple[str, Mapping[str, Any]]] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Talk:
    """A request, as the rules see it."""

    messages: Sequence[Mapping[str, Any]]
    tools: Mapping[str, Mapping[str, Any]]
    schema: Mapping[str, Any] | None
    forced: bool

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Talk:
        """Parse a body of ``/v1/chat/completions``."""
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
        """Return the instructions."""
        return "\n".join(text(one) for one in self.messages if one.get("role") in ("system", "developer"))

    @property
    def all(self) -> str:
        """Return all texts of the conversation, of every role."""
        return "\n".join(text(one) for one in self.messages)

    @property
    def user(self) -> str:
        """Return the user's last message."""
        said = [text(one) for one in self.messages if one.get("role") == "user"]
        return said[-1] if said else ""

    @property
    def users(self) -> str:
        """Return all messages of the user."""
        return "\n".join(text(one) for one in self.messages if one.get("role") == "user")

    @property
    def results(self) -> Sequence[str]:
        """Return the results of the tools."""
        return [text(one) for one in self.messages if one.get("role") in ("tool", "function")]

    def tool(self, word: str) -> str:
        """Return the name of the tool that contains ``word``, or an empty string if none does."""
        return next((name for name in self.tools if word in name.lower()), "")


def text(message: Mapping[str, Any]) -> str:
    """Return the text of a message, even if it is a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or () if isinstance(part, Mapping))


def answer(body: Mapping[str, Any]) -> Reply:
    """Return the reply of the first rule that recognises the conversation in a body of ``/v1/chat/completions``."""
    talk = Talk.of(body)
    for rule in RULES:
        reply = rule(talk)
        if reply is not None:
            return reply
    return Reply("I do not know.")


def _structured(talk: Talk, value: Mapping[str, Any]) -> Reply:
    """Return a value in the requested form: as a forced tool call, by a schema, or as JSON in the text."""
    if talk.tools and (talk.forced or len(talk.tools) == 1):
        return Reply(calls=[(next(iter(talk.tools)), value)])
    return Reply(json.dumps(value, ensure_ascii=False))


def invoice(talk: Talk) -> Reply | None:
    """Answer task ``extraction``: the fields of an invoice."""
    found = re.search(r"Invoice (\S+)\nfrom (.+)\n(?:.*\n)*?Total: ([\d.]+) (\w+)", talk.user)
    if found is None:
        return None
    value = {"number": found[1], "seller": found[2], "total": float(found[3]), "currency": found[4]}
    return _structured(talk, value)


def stock(talk: Talk) -> Reply | None:
    """Answer task ``agent``: call two tools, one after another, and multiply their results."""
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
    """Answer task ``agent`` for tool calls as text: an object with the action, until both results are present."""
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
    """Answer task ``routing``: first the intent, then the answer of its handler."""
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
    """Answer task ``summary``: one sentence of each report, and the sum of all sentences."""
    sums = re.findall(r"Branch (\d+) sold (\d+) loaves\.", talk.user)
    if sums:
        return Reply(f"{len(sums)} branches sold {sum(int(one[1]) for one in sums)} loaves.")
    if found := re.search(r"Report of branch (\d+)(?:.|\n)*?(\d+) loaves", talk.user):
        return Reply(f"Branch {found[1]} sold {found[2]} loaves.")
    return None


def ferry(talk: Talk) -> Reply | None:
    """Answer task ``handoff``: the desk hands over to tickets, which asks for the price and answers."""
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
    """Return the arguments of a hand-over, by the names in its schema."""
    known = {"to_agent": "tickets", "agent": "tickets", "reason": "They sell tickets."}
    return {
        name: known.get(name, "Two tickets to the island, please.") for name in schema.get("properties", {})
    }


def friend(talk: Talk) -> Reply | None:
    """Answer task ``memory``: an earlier statement is known if it is in the conversation."""
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
    """Answer task ``approval``: a tool pays the money back, and the model reports its result."""
    if "mug" not in talk.all or not talk.tool("refund"):
        return None
    if paid := next((one for one in talk.results if "refunded" in one.lower()), None):
        return Reply(f"Sorry! {_number(paid)} euros come back to you.")
    return Reply(calls=[(talk.tool("refund"), {"customer": "Ada", "amount": 12})])


def order(talk: Talk) -> Reply | None:
    """Answer task ``order``: read an order, confirm it, and write a letter about it."""
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
    """Answer task ``rerank``: grade the passages; the passage that says it contains no yeast is the best."""
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
    """Return the passages in a prompt, by their numbers in the prompt."""
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
    """Answer task ``folder``: answer a question from the passages in the prompt if they contain the answer."""
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
