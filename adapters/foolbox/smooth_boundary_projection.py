"""Smooth Boundary Projection: BP whose perturbations are as smooth as the image."""

from __future__ import annotations

from collections.abc import Callable

import eagerpy as ep

from foolart.plugins.smoothing import check_smoothing

from .boundary_projection import BoundaryProjectionAttack
from .guided import check_channel_axis, guided_smoothing
from .problem import Problem


class SmoothBoundaryProjectionAttack(BoundaryProjectionAttack):
    """Smooth BP: perturbations *smooth like* the image, in few gradients. [#Zhang20]_ [#Zhang21]_

    A perspective of the thesis that no paper took up. Every step moves along ``S S^T g`` instead
    of the gradient g, where S is the smoothing guided by the original and S^T its adjoint (see
    :class:`~foolart.plugins.smoothing.GuidedSmoothing`): the steepest descent among perturbations
    ``S z`` for a given length of z. OUT steps keep the loss to first order, as in BP, but in the
    plane of r and that direction, so that all iterates stay smooth; IN steps reach their sphere
    along it. Two solves a step beside the forward and the backward pass.

    What is carried from step to step is the perturbation before rounding: rounding noise would
    otherwise add up, and it is not smooth. All lengths are still those of rounded images.

    Args:
        steps: Number of steps, each with one gradient.
        alpha: BP's alpha, the length of the steps of stage 1; not the smoothing's.
        gamma_min: Where the schedule ``gamma_i`` starts, between 0 and 1 exclusive.
        loss: ``"margin"`` or ``"log_probability"``.
        levels: Number of levels of a digital image, or ``None`` for continuous images.
        smoothing_alpha: Strength of the smoothing, in [0, 1); 0 switches it off.
        kernel: ``"laplacian"`` or ``"gaussian"``, the feature kernel of the pixel graph.
        bandwidth: Width of the kernel, for pixels in [0, 1].
        per_channel: Whether every channel has a graph of its own.
        channel_axis: Axis of the channels; None asks the model for its ``data_format``.

    Raises:
        ValueError: If a parameter is outside its range, or if inputs, labels or model do not fit.

    References:
        .. [#Zhang20] Hanwei Zhang, Yannis Avrithis, Teddy Furon, Laurent Amsaleg, "Smooth
            adversarial examples", EURASIP Journal on Information Security 2020(15),
            https://doi.org/10.1186/s13635-020-00112-z
        .. [#Zhang21] Hanwei Zhang, "Deep learning in adversarial context", PhD thesis, 2021,
            chapters 5 and 7.
    """

    def __init__(
        self,
        *,
        steps: int = 20,
        alpha: float = 2.0,
        gamma_min: float = 0.7,
        loss: str = "margin",
        levels: int | None = 256,
        smoothing_alpha: float = 0.997,
        kernel: str = "laplacian",
        bandwidth: float = 0.03,
        per_channel: bool = False,
        channel_axis: int | None = None,
    ):
        super().__init__(steps=steps, alpha=alpha, gamma_min=gamma_min, loss=loss, levels=levels)
        check_smoothing(smoothing_alpha, kernel, bandwidth)
        check_channel_axis(channel_axis)
        self.smoothing_alpha = smoothing_alpha
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.per_channel = per_channel
        self.channel_axis = channel_axis

    def _guide(self, problem: Problem, x: ep.Tensor) -> Callable[[ep.Tensor], ep.Tensor]:
        smooth = guided_smoothing(
            problem,
            x,
            self.channel_axis,
            alpha=self.smoothing_alpha,
            kernel=self.kernel,
            bandwidth=self.bandwidth,
            per_channel=self.per_channel,
        )
        return lambda gradient: smooth(smooth.adjoint(gradient))

    def _carry(self, r: ep.Tensor, image: ep.Tensor) -> ep.Tensor:
        return r
