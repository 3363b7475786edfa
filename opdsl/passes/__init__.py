"""IR -> IR: `pipeline.py` runs passes, the other files are passes and their helpers."""
