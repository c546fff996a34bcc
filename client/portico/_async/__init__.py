"""`portico.AsyncClient` and its groups of calls, by noun; ``scripts/twin`` makes `portico._sync` of it."""
