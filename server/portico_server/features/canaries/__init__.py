"""Canaries: aliases whose calls are split between two targets."""
