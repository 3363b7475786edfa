"""The command line, `opdsl ...`."""
