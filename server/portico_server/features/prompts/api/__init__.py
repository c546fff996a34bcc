"""HTTP API of prompts."""
