"""What each op computes, in NumPy: the interpreter runs it, constant folding uses it, targets take constants from it."""
