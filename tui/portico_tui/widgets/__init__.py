"""Building blocks of the screens. Widgets use values of `portico_tui.daemon`, never the daemon itself."""
