"""Python code of a model that calls the daemon's tools, models, stores and apps as functions.

Can import `portico_server.features.sandbox`, `portico_server.features.tools.arguments`, `portico_server.runs` and
`portico_server.core`.
"""
