"""OpenAI's APIs of files and uploads."""
