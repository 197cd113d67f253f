"""Boundary Projection along smoothed gradients as an ART attack."""

from foolart.adapters.art.native import NativeAttack
from foolart.adapters.foolbox.smooth_boundary_projection import SmoothBoundaryProjectionAttack


class SmoothBoundaryProjection(NativeAttack):
    """Boundary Projection (BP) with perturbations as smooth as the image they are added to.

    | Paper link: https://arxiv.org/abs/1912.02153 (BP)
    | Paper link: https://doi.org/10.1186/s13635-020-00112-z (smoothing)

    | Limitations: follows gradients; see :class:`foolart.adapters.ArtModel` for defences that hide
      them (paper link: https://arxiv.org/abs/1802.00420). Inputs must be images.

    Parameters: those of :class:`foolart.adapters.foolbox.SmoothBoundaryProjectionAttack`, with
    ``max_iter`` for ``steps``, and ``targeted``, ``batch_size``, ``summary_writer``, ``verbose``.
    """

    foolbox_class = SmoothBoundaryProjectionAttack
