"""The prompt library: versioned prompts with typed arguments, created in Portico or read from files."""
