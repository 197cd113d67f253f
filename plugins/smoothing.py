"""Guided smoothing: perturbations as smooth as the image that they are added to.

References:
    .. [#Zhang20] Hanwei Zhang, Yannis Avrithis, Teddy Furon, Laurent Amsaleg, "Smooth adversarial
        examples", EURASIP Journal on Information Security 2020(15),
        https://doi.org/10.1186/s13635-020-00112-z
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import eagerpy as ep
import numpy as np

from foolart.plugins.chebyshev import RedBlackChebyshev
from foolart.plugins.conjugate_gradient import TruncatedConjugateGradient
from foolart.plugins.dissection import factorize
from foolart.plugins.pixel_graph import KERNELS, PixelGraph
from foolart.plugins.sweeps import Sweeps
from foolart.plugins.tiling import Tiling

Solver = Callable[[ep.Tensor], ep.Tensor]

SOLVERS = ("auto", "direct", "chebyshev", "conjugate_gradient")

# How far beyond [0, 1] a pixel may lie: rescaling an image leaves float noise.
TOLERANCE = 1e-3


class GuidedSmoothing:
    """The operator ``r = s^_alpha(z)`` of equation (9), *smoothing guided by* original images.

    With W~ the normalised adjacency of the pixel graph of an original (see
    :class:`~foolart.plugins.pixel_graph.PixelGraph`) and L_alpha = (I - alpha W~) / (1 - alpha),
    ``s_alpha(z) = L_alpha^-1 z`` (8) and ``s^_alpha(z) = s_alpha(z) / s_alpha(1)`` (9): r is smooth
    wherever the original is, and constants stay what they are. The constructor factors L_alpha
    once; each application is a direct solve, whose relative error against a ``float64`` one is
    below 1e-5 for alpha up to .999.

    Calling the object on z ``(B, C, H, W)``, of any dtype, returns r of the same shape and dtype.
    On PyTorch both r and the adjoint may be differentiated. It is a small immutable object, but on
    PyTorch it works in buffers of its own: do not share it between threads.

    Args:
        originals: Images ``(B, C, H, W)``, H and W at least 2, scaled to [0, 1]; a native or an
            eagerpy tensor. Computation is in their dtype, but at least ``float32``.
        alpha: Strength of the smoothing, in [0, 1): 0 is the identity. The papers use .997 on
            ImageNet and .95 on MNIST.
        kernel: ``"laplacian"``, exp(-||dx||_1 / bandwidth), or ``"gaussian"``,
            exp(-||dx||_2^2 / (2 bandwidth^2)), for the difference dx of neighbouring pixels.
        bandwidth: Width of the kernel, positive. The papers do not give it; the authors' scripts
            use exp(-10 ||dx||), which is .1 here.
        per_channel: Whether every channel has its own graph, as in the authors' code; the papers
            have one graph whose features are the colours.
        channel_axis: The axis of the channels: 1, or 3 (or -1) for ``(B, H, W, C)``.
        solver: ``"direct"``, nested dissection; ``"chebyshev"``, slower but without a factor;
            ``"conjugate_gradient"``, the papers' truncated one, for comparison: 3 % error, and no
            exact adjoint; ``"auto"``, direct unless a factor would be larger than
            ``memory_limit``.
        steps: Number of steps of ``"conjugate_gradient"``.
        memory_limit: Bytes that the factor of one graph may take with ``"auto"``.

    Attributes:
        graph: The pixel graph, in the framework and dtype of the computation.

    Raises:
        ValueError: If an argument is none of the above, or originals are NaN or out of range.
    """

    def __init__(
        self,
        originals: Any,
        alpha: float = 0.997,
        kernel: str = "laplacian",
        bandwidth: float = 0.1,
        *,
        per_channel: bool = False,
        channel_axis: int = 1,
        solver: str = "auto",
        steps: int = 50,
        memory_limit: int = 2**32,
    ) -> None:
        check_smoothing(alpha, kernel, bandwidth)
        if solver not in SOLVERS:
            raise ValueError(f"expected solver to be one of {', '.join(SOLVERS)}, got {solver!r}")
        if steps < 1:
            raise ValueError(f"expected steps to be at least 1, got {steps!r}")
        x = ep.astensor(originals)
        if isinstance(x, ep.PyTorchTensor):
            x = ep.astensor(x.raw.detach())
        check_images(x, channel_axis)
        self.alpha = float(alpha)
        self.per_channel = per_channel
        self.channel_axis = channel_axis
        self.shape = x.shape
        features = self._to_graphs(x if "float64" in str(x.dtype) else x.float32())
        self._dummy = ep.zeros(features, (1,))
        # Weights span hundreds of decades: they are made in float64, which JAX may not have.
        if not isinstance(x, ep.PyTorchTensor):
            features = ep.astensor(np.asarray(features.numpy()))
        graph = PixelGraph.of(_double(features), kernel, float(bandwidth))
        self.graph = graph.like(self._dummy)
        self._solver = self._make_solver(graph, solver, steps, memory_limit)
        graphs, height, width = graph.shape
        self._gain = self._solver(ep.ones(self._dummy, (graphs, 1, height, width)))

    def __call__(self, z: Any) -> Any:
        """Smooth: ``r = s^_alpha(z)``.

        Raises:
            ValueError: If z has another framework or shape than the originals.
        """
        return self._apply(z, self._smooth, self._pull_back)

    def adjoint(self, g: Any) -> Any:
        """Pull a gradient in r back to z: ``L_alpha^-1 (g / s_alpha(1))``.

        This is the transpose of :meth:`__call__`, *divide, then solve*: the paper's (19) calls it
        plain smoothing, but only L_alpha^-1 is its own adjoint.

        Raises:
            ValueError: If g has another framework or shape than the originals.
        """
        return self._apply(g, self._pull_back, self._smooth)

    def roughness(self, r: Any) -> Any:
        """(I - W~) r, a quarter of the gradient of ``sum_ij w_ij ||r^_i - r^_j||^2`` (14).

        Raises:
            ValueError: If r has another framework or shape than the originals.
        """
        return self._apply(r, self._roughness, self._roughness)

    @property
    def gain(self) -> Any:
        """``s_alpha(1)``, positive, of the originals' shape but for one channel, or per channel."""
        gain = self._gain
        if self.per_channel:
            gain = gain.reshape((self.shape[0], -1, *gain.shape[2:]))
        return gain.raw if self.channel_axis == 1 else gain.transpose((0, 2, 3, 1)).raw

    @property
    def nbytes(self) -> int:
        """Bytes that the factor takes; 0 without one."""
        return getattr(self._solver, "nbytes", 0)

    def _make_solver(self, graph: PixelGraph, solver: str, steps: int, memory_limit: int) -> Solver:
        """The solver of L_alpha x = f: the graph comes in float64, of NumPy or PyTorch."""
        if self.alpha == 0:
            return lambda f: f
        if solver == "conjugate_gradient":
            return TruncatedConjugateGradient(self.graph, self.alpha, steps)
        itemsize = 8 if "float64" in str(self._dummy.dtype) else 4
        small = Tiling.of(*graph.shape[1:]).size * itemsize <= memory_limit
        if solver == "chebyshev" or (solver == "auto" and not small):
            double = not isinstance(self._dummy, ep.JAXTensor)
            precise = graph.like(_double(self._dummy)) if double else self.graph
            return RedBlackChebyshev(precise, self.alpha)
        if isinstance(self._dummy, ep.PyTorchTensor):
            from foolart.plugins.sweeps_torch import TorchSweeps

            return TorchSweeps(factorize(graph, self.alpha, self._dummy.dtype))
        dtype = np.float64 if itemsize == 8 else np.float32
        return Sweeps(factorize(graph, self.alpha, dtype), self._dummy)

    def _smooth(self, z: ep.Tensor) -> ep.Tensor:
        return self._from_graphs(self._solver(self._to_graphs(z)) / self._gain)

    def _pull_back(self, g: ep.Tensor) -> ep.Tensor:
        return self._from_graphs(self._solver(self._to_graphs(g) / self._gain))

    def _roughness(self, r: ep.Tensor) -> ep.Tensor:
        return self._from_graphs(self.graph.roughness(self._to_graphs(r)))

    def _apply(self, values: Any, operator: Solver, adjoint: Solver) -> Any:
        """Apply an operator; on PyTorch tensors that require gradients, with its adjoint's."""
        x, restore_type = ep.astensor_(values)
        if type(x) is not type(self._dummy) or x.shape != self.shape:
            raise ValueError(
                f"expected a {type(self._dummy).__name__} of the originals' shape {self.shape}, "
                f"got a {type(x).__name__} of shape {x.shape}"
            )
        dtype = x.dtype
        x = x.astype(self._dummy.dtype)
        if isinstance(x, ep.PyTorchTensor) and x.raw.requires_grad:
            from foolart.plugins.autograd import apply

            y = ep.astensor(
                apply(
                    x.raw,
                    lambda raw: operator(ep.astensor(raw)).raw,
                    lambda raw: adjoint(ep.astensor(raw)).raw,
                )
            )
        else:
            y = operator(x)
        return restore_type(y.astype(dtype))

    def _to_graphs(self, x: ep.Tensor) -> ep.Tensor:
        """Images in their own layout to signals on graphs, ``(G, C, H, W)``."""
        if self.channel_axis != 1:
            x = x.transpose((0, 3, 1, 2))
        return x.reshape((-1, 1, *x.shape[2:])) if self.per_channel else x

    def _from_graphs(self, x: ep.Tensor) -> ep.Tensor:
        """The inverse of :meth:`_to_graphs`."""
        if self.per_channel:
            x = x.reshape((self.shape[0], -1, *x.shape[2:]))
        return x if self.channel_axis == 1 else x.transpose((0, 2, 3, 1))


def check_smoothing(alpha: float, kernel: str, bandwidth: float) -> None:
    """Refuse parameters that define no smoothing.

    Raises:
        ValueError: Naming the argument, what was given, and what is accepted.
    """
    if not 0 <= alpha < 1:
        raise ValueError(
            f"expected alpha in [0, 1), 0 for no smoothing, got {alpha!r}: at 1 every perturbation "
            "would become constant; the papers use 0.997 (ImageNet) and 0.95 (MNIST)"
        )
    if kernel not in KERNELS:
        raise ValueError(f"expected kernel to be one of {', '.join(KERNELS)}, got {kernel!r}")
    if not 0 < bandwidth < math.inf:
        raise ValueError(
            f"expected bandwidth to be positive and finite, got {bandwidth!r}: it is how much two "
            "pixels in [0, 1] may differ and still count as alike, such as 0.1"
        )


def check_images(x: ep.Tensor, channel_axis: int) -> None:
    """Refuse originals that have no pixel graph.

    Raises:
        ValueError: Naming the argument, what was given, and what is accepted.
    """
    if channel_axis not in (1, 3, -1):
        raise ValueError(
            f"expected channel_axis to be 1 (N, C, H, W), or 3 or -1 (N, H, W, C), got "
            f"{channel_axis!r}"
        )
    height, width = (x.shape[2:] if channel_axis == 1 else x.shape[1:3]) if x.ndim == 4 else (0, 0)
    if height < 2 or width < 2 or 0 in x.shape:
        raise ValueError(
            "expected originals to be a batch of images of at least 2x2 pixels, "
            f"{'(N, C, H, W)' if channel_axis == 1 else '(N, H, W, C)'}, got shape {x.shape}"
        )
    if "float" not in str(x.dtype):
        raise ValueError(f"expected originals of a float dtype, got {x.dtype}")
    smallest, largest = x.min().item(), x.max().item()
    if math.isnan(smallest) or math.isnan(largest):
        raise ValueError("expected originals without NaN, got at least one NaN")
    if smallest < -TOLERANCE or largest > 1 + TOLERANCE:
        raise ValueError(
            f"expected originals scaled to [0, 1], got values from {smallest} to {largest}: the "
            "bandwidth is in these units"
        )


def _double(x: ep.Tensor) -> ep.Tensor:
    # eagerpy has float64() since 0.30 only, and Foolbox 3.3.1 wants 0.29.
    return ep.astensor(x.raw.double()) if isinstance(x, ep.PyTorchTensor) else x.astype("float64")
