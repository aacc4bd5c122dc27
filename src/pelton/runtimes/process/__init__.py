"""Runs the models of any runtime in worker processes, which may crash and hang as they like."""
