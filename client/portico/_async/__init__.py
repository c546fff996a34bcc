"""`portico.AsyncClient` and its groups of calls, by noun; ``scripts/sdk`` writes `calls` and `portico._sync`."""
