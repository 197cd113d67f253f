"""Projected gradient descent along smoothed gradients as an ART attack."""

from foolart.adapters.art.native import NativeAttack
from foolart.adapters.foolbox.smooth_projected_gradient_descent import (
    SmoothL2ProjectedGradientDescentAttack,
)


class SmoothProjectedGradientDescent(NativeAttack):
    """L2 projected gradient descent along gradients as smooth as the image (qPGD2).

    | Paper link: https://doi.org/10.1186/s13635-020-00112-z

    | Limitations: follows gradients; see :class:`foolart.adapters.ArtModel` for defences that hide
      them (paper link: https://arxiv.org/abs/1802.00420). On flat images smoothed gradients say
      little, and the attack fails. Inputs must be images.

    Parameters: those of
    :class:`foolart.adapters.foolbox.SmoothL2ProjectedGradientDescentAttack`, with ``max_iter`` for
    ``steps``; ``eps``, the largest L2 distance in the units of the clip values; and ``targeted``,
    ``batch_size``, ``summary_writer``, ``verbose``.
    """

    foolbox_class = SmoothL2ProjectedGradientDescentAttack
    eps = 0.3
