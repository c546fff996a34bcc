"""`portico.AsyncClient` and its groups of calls, by noun; ``scripts/sdk`` generates `calls` and `portico._sync`."""
