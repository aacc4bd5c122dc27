"""Runs models that are plain Python: a folder with a `model.py`."""
