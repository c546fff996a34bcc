"""Realtime sessions: a conversation over one connection, in events as OpenAI defines them. Answers are those of
`portico_server.apps.responses`.
"""
