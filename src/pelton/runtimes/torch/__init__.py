"""Runs PyTorch models; PyTorch is imported when the first one is loaded."""
