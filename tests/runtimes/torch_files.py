"""Tiny PyTorch files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch


class Double(torch.nn.Module):
    """x [n, 2] -> 2 x, by a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor([2.0, 2.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def exported(path: Path, module: torch.nn.Module, example: tuple[Any, ...], **further: Any) -> Path:
    torch.export.save(torch.export.export(module.eval(), example, **further), path)
    return path


def exported_double(path: Path) -> Path:
    return exported(
        path, Double(), (torch.zeros(2, 2),), dynamic_shapes=({0: torch.export.Dim("n")},)
    )


def scripted(path: Path, module: torch.nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.", category=DeprecationWarning)
        torch.jit.script(module.eval()).save(path)
    return path
