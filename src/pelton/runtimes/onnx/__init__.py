"""Runs ONNX files with onnxruntime, which is imported when the first one is loaded."""

from __future__ import annotations


def devices() -> list[str]:
    """Return the execution providers of the installed onnxruntime, such as `CPU` and `CUDA`."""
    import onnxruntime

    names = onnxruntime.get_available_providers()
    return [name.removesuffix("ExecutionProvider") for name in names]
