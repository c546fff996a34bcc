"""What the screens are made of. Widgets know values of `portico_tui.daemon`, never the daemon itself."""
