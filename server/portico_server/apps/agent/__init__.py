"""Agents: a model with instructions, tools, memory and an output format, declared as data.

May import `portico_server.runs` and below and the other apps; accesses models, stores and tools by name.
"""
