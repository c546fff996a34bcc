"""Flows: apps as data. A specification is parsed, checked as a whole, compiled, and run by one executor.

May import `portico_server.runs` and the packages below it. Flows access models, stores and tools by name through
`Context.call`.
"""
