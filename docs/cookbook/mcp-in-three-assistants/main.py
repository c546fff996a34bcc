"""What an assistant sees over MCP: tools, resources and prompts, through the client that assistants are made with."""

import asyncio
import os

from mcp import Client

url = os.environ.get("PORTICO_URL", "http://127.0.0.1:8642")


async def main() -> None:
    """List, search, ask the app, fill a prompt."""
    async with Client(f"{url}/mcp") as assistant:
        tools = {tool.name for tool in (await assistant.list_tools()).tools}
        print("tools:", sorted(tools & {"search_harbour", "harbour", "ask_model", "calculator"}))
        print("resources:", [item.name for item in (await assistant.list_resources()).resources])

        found = await assistant.call_tool("search_harbour", {"query": "when does it open"})
        print("found:", found.structured_content["passages"][0]["filename"])
        said = await assistant.call_tool("harbour", {"input": "When does the harbour open?"})
        print("answer:", said.content[0].text.splitlines()[0])
        sum_of = await assistant.call_tool("calculator", {"expression": "6 * 7"})
        print("calculator:", sum_of.content[0].text)
        prompt = await assistant.get_prompt("notice", {"event": "the crane is repaired"})
        print("prompt:", prompt.messages[0].content.text)

    async with Client(f"{url}/mcp/stores/harbour") as one:
        print("one store alone:", [tool.name for tool in (await one.list_tools()).tools])


asyncio.run(main())
