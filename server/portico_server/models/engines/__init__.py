"""The engines, a folder each with an `engine.py`. `openai_client` and `external` are shared by several."""
