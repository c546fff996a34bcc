"""Webhooks: who hears of what has ended, and the task that sends it. Imports ``db`` and ``core`` alone.

The events themselves are written by ``db``, in the transactions that end things.
"""
