"""DDN on the grid of digital images as an ART attack."""

from foolart.adapters.art.native import NativeAttack
from foolart.adapters.foolbox.quantized_ddn import QuantizedDDNAttack


class QuantizedDDN(NativeAttack):
    """Decoupled direction and norm (DDN) whose every iterate is a digital image.

    ``quantization="rounding"`` is the DDN of the first paper; ``"lagrangian"`` moves iterates to
    the grid by the quantiser of the second, which distorts less.

    | Paper link: https://arxiv.org/abs/1811.09600 (DDN)
    | Paper link: https://hal.science/hal-02553006 (the Lagrangian quantiser)

    | Limitations: follows gradients; see :class:`foolart.adapters.ArtModel` for defences that hide
      them (paper link: https://arxiv.org/abs/1802.00420).

    Parameters: those of :class:`foolart.adapters.foolbox.QuantizedDDNAttack`, with ``max_iter`` for
    ``steps``, and ``targeted``, ``batch_size``, ``summary_writer``, ``verbose``.
    """

    foolbox_class = QuantizedDDNAttack
