"""Engines that are somebody else's servers: started in a guarded process, spoken to in their own dialects."""
