"""The targets: one package each. `base.py` says what a target is."""
