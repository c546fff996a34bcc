"""Agents: a model with instructions, tools, memory and an output format, declared as data.

May import `portico_server.runs`, the packages below it, and the other apps. Agents access models, stores and tools by
name.
"""
