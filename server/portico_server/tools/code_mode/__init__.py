"""Python code of a model that calls the daemon's tools, models, stores and apps as functions.

Can import `portico_server.tools.sandbox`, `portico_server.tools.arguments`, `portico_server.runs` and
`portico_server.core`.
"""
