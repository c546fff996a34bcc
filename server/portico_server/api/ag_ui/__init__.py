"""The AG-UI protocol, 1.0: front ends run an app or a model at ``/ag-ui/NAME`` and hear of it in events.

Source: https://docs.ag-ui.com/sdk/python/core/events.
"""
