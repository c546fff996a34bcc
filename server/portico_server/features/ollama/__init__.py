"""Ollama's API, for programs that support no other API: ``/api/chat``, ``/api/generate``, ``/api/embed``,
``/api/tags`` …

Configure these programs with the daemon's address, without a path. A model that they pull has its source as its name.
Source: https://github.com/ollama/ollama/blob/main/docs/api.md.
"""
