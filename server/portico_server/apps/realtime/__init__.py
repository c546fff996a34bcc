"""Realtime sessions: a conversation over one connection, in OpenAI's event format. `portico_server.apps.responses`
creates the answers.
"""
