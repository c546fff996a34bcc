"""Flows: apps that are data. A specification is read, checked as a whole, compiled, and run by one executor.

May import `portico_server.runs` and below; reaches models, stores and tools by name through `Context.call`.
"""
