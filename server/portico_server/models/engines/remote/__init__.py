"""The engine `remote`: any OpenAI-compatible server, with presets for well-known providers."""
