"""The screens, one for each resource of the daemon. A screen uses `portico_tui.daemon`, the client and the widgets.

Most screens are derived from `portico_tui.screens.page.ListingScreen`, whose styles are in ``listing.tcss``;
``documents`` and ``chat`` have a separate ``.tcss`` file.
"""
