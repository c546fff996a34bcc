"""Ollama's API, for programs that speak only that: ``/api/chat``, ``/api/generate``, ``/api/embed``, ``/api/tags`` …

The address to set there is the daemon's own, without a path. Models are added and removed by Portico's commands.
Source: https://github.com/ollama/ollama/blob/main/docs/api.md.
"""
