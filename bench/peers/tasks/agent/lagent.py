"""An agent with two tools in Lagent."""

import json
import os

from lagent.actions import BaseAction, tool_api
from lagent.agents.react import ReAct
from lagent.llms import GPTAPI
from lagent.prompts import PromptTemplate
from lagent.prompts.parsers import JSONParser
from pydantic import BaseModel, Field


class Stock(BaseAction):
    @tool_api
    def run(self, item: str) -> str:
        """How many loaves of a bread are in stock.

        Args:
            item (str): The bread.
        """
        return f"in stock: {dict(rye=20, wheat=35)[item]} loaves"


class Price(BaseAction):
    @tool_api
    def run(self, item: str) -> str:
        """What a loaf of a bread costs.

        Args:
            item (str): The bread.
        """
        return f"price: {dict(rye=4.5, wheat=3)[item]} euros"


class Call(BaseModel):
    name: str = Field(description="the tool to call")
    parameters: dict = Field(description="its arguments")


class Act(BaseModel):
    thought_process: str = Field(description="what is known, and what is missing")
    action: Call = Field(description="the next call")


class Finish(BaseModel):
    thought_process: str = Field(description="what is known")
    conclusion: str = Field(description="the answer")


llm = GPTAPI("gpt-4o-mini", api_base=os.environ["OPENAI_BASE_URL"] + "/chat/completions")
parser = JSONParser(
    "To call a tool, answer in this form:\n{call}\nTo finish, answer in this form:\n{finish}",
    call=Act,
    finish=Finish,
)
baker = ReAct(
    llm,
    [Stock(), Price()],
    template=PromptTemplate(
        "You know the bakery. Look things up with these tools:\n{action_info}\n{output_format}"
    ),
    output_format=parser,
)
print(json.dumps(baker("What do we earn if we sell all the rye bread?").formatted["conclusion"]))
