"""The minimum-norm attacks on the levels of digital images as ART attacks."""

from foolart.adapters.art.native import NativeAttack
from foolart.adapters.foolbox.integer_minimum_norm import (
    IntegerMinimumNormAttack,
    LinfIntegerMinimumNormAttack,
)


class IntegerMinimumNorm(NativeAttack):
    """The closest adversarial among digital images, in L2, by rounding a scaled gradient.

    It needs few gradients, 20 by default, and never leaves the images' levels. With 256 ``levels``
    (the default) images must be 8-bit ones, whatever the clip values.

    | Limitations: follows gradients; see :class:`foolart.adapters.ArtModel` for defences that hide
      them (paper link: https://arxiv.org/abs/1802.00420).

    Parameters: those of :class:`foolart.adapters.foolbox.IntegerMinimumNormAttack`, with
    ``max_iter`` for ``steps``, and ``targeted``, ``batch_size``, ``summary_writer``, ``verbose``.
    """

    foolbox_class = IntegerMinimumNormAttack


class LinfIntegerMinimumNorm(NativeAttack):
    """The closest adversarial among digital images, in L_inf, by whole levels along a sign.

    | Limitations: follows gradients; see :class:`foolart.adapters.ArtModel` for defences that hide
      them (paper link: https://arxiv.org/abs/1802.00420).

    Parameters: those of :class:`foolart.adapters.foolbox.LinfIntegerMinimumNormAttack`, with
    ``max_iter`` for ``steps``, and ``targeted``, ``batch_size``, ``summary_writer``, ``verbose``.
    """

    foolbox_class = LinfIntegerMinimumNormAttack
