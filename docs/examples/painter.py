"""A painter: one model writes the prompt, another one draws."""

from portico import Client
from portico.flow import llm, pipeline, tool, value

PROMPT = (
    "You are a drawing prompt word master who can convert any Chinese content entered by the user into English drawing "
    "prompt words. In this task, you need to convert any input content into English drawing prompt words, and you can "
    "enrich and expand the prompt word content."
)

painter = pipeline(
    words=llm("default", system=PROMPT), picture=tool("draw", prompt=value, model="stable-diffusion-3-medium")
)

if __name__ == "__main__":
    Client().apps.deploy("painter", painter)
