"""HTTP APIs of evaluations, searches and improvements."""
