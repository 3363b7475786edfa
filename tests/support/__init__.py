"""Helpers that tests of several targets share."""
