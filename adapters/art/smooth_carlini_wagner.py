"""The smooth Carlini & Wagner attack as an ART attack."""

from foolart.adapters.art.native import NativeAttack
from foolart.adapters.foolbox.smooth_carlini_wagner import SmoothCarliniWagnerAttack


class SmoothCarliniWagner(NativeAttack):
    """The Carlini & Wagner L2 attack with perturbations as smooth as the image they are added to.

    On the classifier's device, all images of a batch at once; ``alpha=0`` is without smoothing.

    | Paper link: https://doi.org/10.1186/s13635-020-00112-z
    | Paper link: https://arxiv.org/abs/1608.04644 (Carlini & Wagner)

    | Limitations: follows gradients; see :class:`foolart.adapters.ArtModel` for defences that hide
      them (paper link: https://arxiv.org/abs/1802.00420). Inputs must be images.

    Parameters: those of :class:`foolart.adapters.foolbox.SmoothCarliniWagnerAttack`, with
    ``max_iter`` for ``steps``, and ``targeted``, ``batch_size``, ``summary_writer``, ``verbose``.
    """

    foolbox_class = SmoothCarliniWagnerAttack
