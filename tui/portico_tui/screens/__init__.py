"""The screens, one for each noun of the daemon. A screen knows `portico_tui.daemon`, the client and the widgets.

Most screens are a `portico_tui.screens.page.ListingScreen`, which has its styles in ``listing.tcss``; ``documents`` and
``chat`` have a ``.tcss`` of their own.
"""
