"""Facts about the tile IR that passes, targets and tools ask for; nothing here changes a kernel."""
