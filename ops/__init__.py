"""The operator library, imported as `opdsl.ops`."""
