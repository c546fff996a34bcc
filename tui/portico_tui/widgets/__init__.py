"""Building blocks of the screens. Widgets receive values of `portico_tui.daemon`; they never call the daemon."""
