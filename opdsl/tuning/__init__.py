"""Tuning: configurations measured by `opdsl tune`, and the records that launches use. docs/tuning.md is its page."""
