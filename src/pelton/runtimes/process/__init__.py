"""Runs any runtime's models in worker processes, so that they can harm nobody but themselves."""
