"""Tensors to tensors: what runs a model."""
