"""Lets the tests import their helpers as `support`."""
