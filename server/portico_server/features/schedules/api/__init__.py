"""HTTP API of schedules."""
