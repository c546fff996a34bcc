"""The AG-UI protocol, version 1.0: front ends run an app or a model at ``/ag-ui/NAME`` and receive the run's events.

Source: https://docs.ag-ui.com/sdk/python/core/events.
"""
