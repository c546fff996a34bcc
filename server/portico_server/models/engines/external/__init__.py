"""Engines that are third-party servers, started in a guarded process and called with their own API variants."""
