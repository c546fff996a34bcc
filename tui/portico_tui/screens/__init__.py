"""The three screens, a ``.tcss`` beside each. A screen knows `portico_tui.daemon` and the widgets."""
