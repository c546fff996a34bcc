"""Realtime sessions: a conversation over one connection, in events as OpenAI defines them.
`portico_server.apps.responses` creates the answers.
"""
