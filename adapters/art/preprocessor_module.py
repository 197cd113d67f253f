"""Any ART preprocessor as a module, to defend Foolbox models and networks with."""

from __future__ import annotations

from typing import Any

import torch
from art.defences.preprocessor import Preprocessor
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from torch import nn

from foolart.plugins.straight_through import check_gradient, straight_through


class PreprocessorModule(nn.Module):
    """Run an ART preprocessor, of NumPy or PyTorch, inside a network.

    Args:
        preprocessor: The preprocessor, made for images ``(N, C, H, W)`` in [0, 1].
        gradient: ``"straight-through"``, the identity (BPDA), or, for preprocessors of PyTorch,
            ``"true"``: what its ``forward`` has.

    Raises:
        ValueError: If the preprocessor is not fitted, not one of ART's, or has no such gradient.
    """

    gradients: tuple[str, ...] = ("straight-through", "true")

    def __init__(self, preprocessor: Any, *, gradient: str = "straight-through") -> None:
        super().__init__()
        if not isinstance(preprocessor, Preprocessor):
            raise ValueError(
                "expected an ART preprocessor, such as art.defences.preprocessor.JpegCompression, "
                f"got {type(preprocessor).__name__}"
            )
        if not isinstance(preprocessor, PreprocessorPyTorch):
            self.gradients = ("straight-through",)
        check_gradient(gradient, self.gradients)
        self.preprocessor, self.gradient = preprocessor, gradient

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Preprocess images ``(N, C, H, W)`` in [0, 1]; dtype and device are kept."""
        if self.gradient == "true":
            value: torch.Tensor = self.preprocessor.forward(x)[0]
            return value.to(x.dtype)
        with torch.no_grad():
            if isinstance(self.preprocessor, PreprocessorPyTorch):
                value = self.preprocessor.forward(x)[0]
            else:
                value = torch.as_tensor(self.preprocessor(x.detach().cpu().numpy())[0])
        return straight_through(x, value.to(x))
