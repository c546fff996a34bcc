"""A chatbot that remembers the conversation."""

from portico import Client
from portico.flow import llm

chatbot = llm("default", history=True)

if __name__ == "__main__":
    Client().apps.deploy("chatbot", chatbot)
