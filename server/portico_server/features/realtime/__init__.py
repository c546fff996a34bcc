"""Realtime sessions: a conversation over one connection, in OpenAI's event format. `portico_server.features.responses`
creates the answers.
"""
