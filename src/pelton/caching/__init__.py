"""Answers that are kept, so that the same question need not be computed again."""
