"""The engines, each in a folder with an `engine.py`. Several engines share `openai_client` and `external`."""
