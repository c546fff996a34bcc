"""HTTP API of agents and their sessions."""
