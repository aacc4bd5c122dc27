"""Folders of models and versions to a list of model specs."""
