"""Boundary Projection as an ART attack."""

from foolart.adapters.art.native import NativeAttack
from foolart.adapters.foolbox.boundary_projection import BoundaryProjectionAttack


class BoundaryProjection(NativeAttack):
    """Boundary Projection (BP): fast L2 attack with minimal distortion on digital images.

    A few gradients reach the class boundary, the others walk along it. With 256 ``levels`` (the
    default) images must be 8-bit ones, whatever the clip values; ``levels=None`` is for others.

    | Paper link: https://arxiv.org/abs/1912.02153

    | Limitations: follows gradients; see :class:`foolart.adapters.ArtModel` for defences that hide
      them (paper link: https://arxiv.org/abs/1802.00420).

    Parameters: those of :class:`foolart.adapters.foolbox.BoundaryProjectionAttack`, with
    ``max_iter`` for ``steps``, and ``targeted``, ``batch_size``, ``summary_writer``, ``verbose``.
    """

    foolbox_class = BoundaryProjectionAttack
