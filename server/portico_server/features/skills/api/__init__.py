"""OpenAI's API of skills."""
