"""The screens, one for each resource of the daemon. A screen uses `portico_tui.daemon`, the client and the widgets.

Most screens are a `portico_tui.screens.page.ListingScreen`, which has its styles in ``listing.tcss``; ``documents``
and ``chat`` have their own ``.tcss``.
"""
