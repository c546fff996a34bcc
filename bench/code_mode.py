"""Tokens that a model sees for one task: with code that calls tools, with tools found by search, with all tools listed.

The task joins customers, orders and payments (5,000 rows) that three of 200 tools return: which customers owe most?
The other 197 tools are those of `tool_search.jsonl`. The code is what a chat model writes from the signatures. Goals:
at most 3,000 tokens with code, where the list of all tools and their results have more than 40,000, and the answer of
direct calls.

python bench/code_mode.py
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wordllama
from tool_search import DATA

from portico_server.core.context import Context
from portico_server.core.principal import LOCAL
from portico_server.core.registry import Registry
from portico_server.core.request import ToolCall, ToolResult
from portico_server.db.database import Database
from portico_server.features.mcp.tools import PAIR, FoundTools, offer
from portico_server.features.sandbox.light import LightSandbox
from portico_server.features.stores.tool_search import ToolIndex
from portico_server.features.tools.builtin import run_code
from portico_server.features.tools.code_mode.functions import RUN_CODE, functions_of
from portico_server.features.tools.tool import Tool
from portico_server.features.tools.toolbox import Toolbox
from portico_server.runs.runner import Runner
from portico_server.runs.usage import UsageLog

CUSTOMERS, ORDERS, PAYMENTS = 500, 2_500, 2_000
MAX_CODE_TOKENS = 3_000
MIN_LISTED_TOKENS = 40_000

ROWS: Mapping[str, list[dict[str, Any]]] = {
    "customers": [{"id": n, "name": f"Customer {n}", "city": f"City {n % 40}"} for n in range(CUSTOMERS)],
    "orders": [
        {"id": n, "customer_id": n * 7 % CUSTOMERS, "total": n * 37 % 900 + 10} for n in range(ORDERS)
    ],
    "payments": [{"id": n, "order_id": n, "amount": n * 31 % 800 + 5} for n in range(PAYMENTS)],
}
ABOUT = {
    "customers": "List all customers of the shop, with name and city.",
    "orders": "List all orders of the shop, with the customer and the total in euros.",
    "payments": "List all payments that the shop received, with the order and the amount in euros.",
}
QUERIES = ("list customers of the shop", "list orders of the shop", "list payments that were received")
CODE = """
customers = {row["id"]: row["name"] for row in portico.tools.shop_customers()["rows"]}
orders = portico.tools.shop_orders()["rows"]
debts = {}
for order in orders:
    debts[order["customer_id"]] = debts.get(order["customer_id"], 0) + order["total"]
buyers = {order["id"]: order["customer_id"] for order in orders}
for payment in portico.tools.shop_payments()["rows"]:
    debts[buyers[payment["order_id"]]] -= payment["amount"]
[(customers[number], debt) for number, debt in sorted(debts.items(), key=lambda item: (-item[1], item[0]))[:5]]
"""


async def main() -> int:
    """Print the tokens of each way; return 1 if a goal is missed."""
    registry, light = Registry(), LightSandbox(1)
    toolbox = Toolbox(registry)
    for tool in (
        *map(shop_tool, ROWS),
        *map(other_tool, DATA.read_text(encoding="utf-8").splitlines()[:197]),
    ):
        toolbox.add(tool)
    cards = {card.name: card for card in await registry.cards(LOCAL, "tool")}
    toolbox.add(run_code.tool(registry, light))
    vectors = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)

    def tokens(value: Any) -> int:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return int(sum(vectors.tokenize([text])[0].attention_mask))

    def listed(*tools: Any) -> int:
        return tokens([tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools])

    functions = await functions_of(LOCAL, registry)
    find = FoundTools(ToolIndex(Registry()), 40)
    code_card = (await registry.resolve(f"tool/{RUN_CODE}", LOCAL)).card
    everything = listed(*(offer(name, card).tool for name, card in cards.items()))
    ways = {
        "all listed": everything,
        "searched": listed(*PAIR),
        "code": listed(*PAIR, offer(RUN_CODE, code_card).tool),
    }
    with tempfile.TemporaryDirectory() as folder:
        database = Database.at(Path(folder) / "portico.db")
        database.prepare()
        runner = Runner(registry, UsageLog(database), timeout=60)
        for way, shown_functions in (("searched", {}), ("code", functions)):
            for query in QUERIES:
                work = find.search(cards, {"query": query}, shown_functions)
                reply = await runner.wait(await runner.begin("bench", "find_tools", LOCAL, work))
                ways[way] += tokens({"query": query}) + tokens(reply.text)
        rows = 0
        for name in ROWS:
            result = await runner.call("bench", f"tool/shop_{name}", ToolCall({}), LOCAL)
            assert isinstance(result, ToolResult)
            rows += tokens(result.text)
        began = time.process_time()
        done = await runner.call("bench", f"tool/{RUN_CODE}", ToolCall({"code": CODE}), LOCAL)
        spent_ms = (time.process_time() - began) * 1e3
        assert isinstance(done, ToolResult)
        await runner.close()
        database.close()
    await light.close()
    ways["all listed"] += rows
    ways["searched"] += rows
    ways["code"] += tokens(CODE) + tokens(done.text)
    is_equal = done.text == repr(debtors())
    print(f"{len(cards)} tools listed: {everything:,} tokens; results of the three calls: {rows:,} tokens")
    for way, count in ways.items():
        print(f"{way:10} {count:7,} tokens")
    print(
        f"answer {'equal' if is_equal else 'NOT equal'} to that of direct calls; {spent_ms:.0f} ms in the daemon"
    )
    return 0 if is_equal and ways["code"] <= MAX_CODE_TOKENS and ways["all listed"] > MIN_LISTED_TOKENS else 1


def debtors() -> list[tuple[str, int]]:
    """Return the five customers that owe most, computed from the rows themselves."""
    customer_of = {order["id"]: order["customer_id"] for order in ROWS["orders"]}
    debts = dict.fromkeys(range(CUSTOMERS), 0)
    for order in ROWS["orders"]:
        debts[order["customer_id"]] += order["total"]
    for payment in ROWS["payments"]:
        debts[customer_of[payment["order_id"]]] -= payment["amount"]
    ranked = sorted(debts.items(), key=lambda item: (-item[1], item[0]))[:5]
    return [(ROWS["customers"][customer]["name"], debt) for customer, debt in ranked]


def shop_tool(name: str) -> Tool:
    """Return a tool of the shop that lists all rows of one kind."""
    fields = {
        field: {"type": "string" if isinstance(value, str) else "integer"}
        for field, value in ROWS[name][0].items()
    }
    row = {"type": "object", "properties": fields, "required": list(fields)}

    async def work(_arguments: Mapping[str, Any], _context: Context) -> ToolResult:
        return ToolResult(json.dumps(ROWS[name]), {"rows": ROWS[name]})

    schema = {"type": "object", "properties": {"rows": {"type": "array", "items": row}}, "required": ["rows"]}
    return Tool(f"shop_{name}", f"Shop {name}", ABOUT[name], {"type": "object"}, work, output_schema=schema)


def other_tool(line: str) -> Tool:
    """Return a tool that the task does not need."""
    row = json.loads(line)
    properties = {name: {"type": "string", "description": about} for name, about in row["parameters"].items()}
    schema = {
        "type": "object",
        "properties": properties,
        "required": [next(iter(properties))],
        "additionalProperties": False,
    }

    async def work(_arguments: Mapping[str, Any], _context: Context) -> ToolResult:
        raise AssertionError(row["name"])

    return Tool(row["name"], row["name"].replace("_", " ").capitalize(), row["description"], schema, work)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
