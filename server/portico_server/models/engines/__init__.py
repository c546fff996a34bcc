"""The engines, each in a folder with an `engine.py`. `openai_client` and `external` are shared by several."""
