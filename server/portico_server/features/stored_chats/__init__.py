"""Chat completions that a request stored."""
