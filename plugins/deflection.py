"""Pixel deflection and the wavelet denoising that softens it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from foolart.plugins.features import tapped
from foolart.plugins.filters import FLOATS_AT_ONCE, check_images
from foolart.plugins.guard import find, modes_kept
from foolart.plugins.randomised import Randomised
from foolart.plugins.straight_through import check_gradient, straight_through

# ITU-R BT.601 on [0, 1], in the units of scikit-image (16 to 235 and 16 to 240, offsets left out:
# the transform of an offset is no detail coefficient).
YCBCR = (
    (65.481, 128.553, 24.966),
    (-37.797, -74.203, 112.0),
    (112.0, -93.786, -18.214),
)


class PixelDeflection(Randomised):
    """Replace random pixels by near ones, then shrink wavelet coefficients [#Prakash18]_.

    Each deflection changes one channel of one pixel, as in the authors' code. Where a map of
    activation is given, pixels are drawn with probability 1 - map: the more a place matters to the
    classifier, the less it is deflected. In difference to the authors' loop, all pixels are drawn
    at once and read the undeflected image, so that no pixel is deflected twice in a row; and pixels
    within ``window`` of the border read from the part of the window inside the image.

    Args:
        deflections: Number of deflections of an image, 200 in the paper.
        window: Largest distance of the pixel that is read, in rows and in columns, 10.
        sigma: Noise level of the denoising, .04; 0 for none.
        activation: Maps images ``(B, C, H, W)`` to maps ``(B, H, W)`` in [0, 1], such as
            :class:`ActivationMap`; by default all places count the same.
        seed: Of the deflections.
        gradient: ``"straight-through"``, the identity, or ``"true"``, which follows each pixel to
            where it was read and passes the shrinking; the activation map is held constant.

    Raises:
        ValueError: If an argument is out of range.

    References:
        .. [#Prakash18] Prakash, Moran, Garber, DiLillo, Storer, "Deflecting adversarial attacks
           with pixel deflection", CVPR 2018.
    """

    gradients: ClassVar[tuple[str, ...]] = ("straight-through", "true")

    def __init__(
        self,
        deflections: int = 200,
        window: int = 10,
        sigma: float = 0.04,
        *,
        activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
        seed: int = 0,
        gradient: str = "straight-through",
    ) -> None:
        super().__init__(seed)
        if deflections < 0 or window < 1 or not 0 <= float(sigma) < float("inf"):
            raise ValueError(
                "expected deflections >= 0, window >= 1 and sigma >= 0, got "
                f"{deflections!r}, {window!r} and {sigma!r}"
            )
        check_gradient(gradient, self.gradients)
        self.deflections, self.window, self.sigma = int(deflections), int(window), float(sigma)
        self.activation = activation
        self.gradient = gradient

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Deflect and denoise images ``(B, C, H, W)`` in [0, 1]."""
        check_images(x)
        tracked = torch.is_grad_enabled() and x.requires_grad and self.gradient == "true"
        # Before x is cut into chunks, so that draws belong to places in the batch.
        generator = self.generator(x.device)
        draws = torch.rand((len(x), 4, self.deflections), generator=generator, device=x.device)
        size = max(1, FLOATS_AT_ONCE // max(1, x.shape[1:].numel()))
        with torch.set_grad_enabled(tracked):
            parts = zip(torch.split(x, size), torch.split(draws, size), strict=True)
            value = torch.cat([self._filtered(part, draw) for part, draw in parts])
        if torch.is_grad_enabled() and self.gradient == "straight-through":
            return straight_through(x, value)
        return value

    def _filtered(self, x: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        value = self._deflected(x, draws)
        return (denoise(value, self.sigma) if self.sigma > 0 else value).clamp(0, 1)

    def _deflected(self, x: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        _, channels, height, width = x.shape
        if self.activation is None:
            place = (draws[:, 0] * (height * width)).long()
        else:
            with torch.no_grad():
                likely = (1 - self.activation(x.detach())).clamp(min=0).flatten(1)
            # A map that is 1 everywhere leaves no place: then all are the same.
            likely = likely + torch.finfo(likely.dtype).eps
            bound = likely.cumsum(1) / likely.sum(1, keepdim=True)
            place = torch.searchsorted(bound, draws[:, 0].contiguous())
        place = place.clamp(max=height * width - 1)
        row, column = place.div(width, rounding_mode="floor"), place % width
        source_row = _near(row, draws[:, 1], self.window, height)
        source_column = _near(column, draws[:, 2], self.window, width)
        channel = (draws[:, 3] * channels).long().clamp(max=channels - 1)
        source = (channel * height + source_row) * width + source_column
        target = (channel * height + row) * width + column
        flat = x.flatten(1)
        return flat.gather(1, _sources(source, target, flat.shape[1])).view_as(x)


def _sources(source: torch.Tensor, target: torch.Tensor, size: int) -> torch.Tensor:
    """Where each of ``size`` elements is read, ``(B, size)``: in its place, or where a draw says.

    Of several draws ``(B, draws)`` with one target the last counts, on every device: scattering
    values to the same target twice has no defined result on a GPU, nor a right gradient anywhere.
    """
    places = torch.arange(size, device=source.device).expand(len(source), -1)
    order = torch.arange(source.shape[1], device=source.device).expand_as(source)
    last = torch.zeros_like(places).scatter_reduce(1, target, order, "amax")
    return places.scatter(1, target, source.gather(1, last.gather(1, target)))


def _near(place: torch.Tensor, draw: torch.Tensor, window: int, size: int) -> torch.Tensor:
    """A uniform draw from [place - window, place + window] inside [0, size)."""
    low = (place - window).clamp(min=0)
    high = (place + window).clamp(max=size - 1)
    return torch.minimum(low + (draw * (high - low + 1)).long(), high)


class ActivationMap(nn.Module):
    """The robust class-activation map: where a network looks for its likeliest classes.

    R = sum over the k likeliest classes i = 1..k of M_i / 2^i, M_i the sum of the features before
    global pooling, weighted by the class's row of the last linear layer; enlarged to the image and
    scaled to [0, 1] for each image [#Prakash18]_.

    Args:
        network: The undefended network, images ``(B, C, H, W)`` in [0, 1] to logits. It is used in
            evaluation mode and put back.
        features: Name of the module whose output ``(B, F, h, w)``, the last if it runs more than
            once, is pooled globally.
        classifier: Name of the linear layer ``(classes, F)`` after the pooling.
        top: k, 5 in the paper.

    Raises:
        ValueError: If a layer of that name does not exist or the classifier is not linear.

    References:
        .. [#Prakash18] Prakash, Moran, Garber, DiLillo, Storer, "Deflecting adversarial attacks
           with pixel deflection", CVPR 2018.
    """

    def __init__(self, network: nn.Module, features: str, classifier: str, *, top: int = 5) -> None:
        super().__init__()
        layer = find(network, classifier)
        if not isinstance(layer, nn.Linear):
            raise ValueError(
                f"expected {classifier!r} to be a linear layer, got {type(layer).__name__}"
            )
        find(network, features)
        # In a list: the network is no part of the defence, to be trained or saved with it.
        self._network = [network]
        self.features, self.classifier, self.top = features, classifier, top

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The maps ``(B, H, W)``, from 0 to 1, without a gradient.

        Raises:
            ValueError: If the network does not use the layer of features, or they are no maps.
        """
        network = self._network[0]
        with torch.no_grad(), modes_kept(network), tapped(network, self.features) as features:
            logits = network.eval()(x)
        layer = find(network, self.classifier)
        assert isinstance(layer, nn.Linear)
        order = logits.topk(min(self.top, logits.shape[1]), dim=1).indices
        shares = 0.5 ** torch.arange(1, order.shape[1] + 1, device=x.device)
        weights = (layer.weight.detach()[order] * shares[:, None]).sum(1)
        maps = torch.einsum("bf,bfhw->bhw", weights, features())[:, None]
        maps = F.interpolate(maps, x.shape[2:], mode="bilinear", align_corners=False)[:, 0]
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        return (maps - low) / (high - low).clamp(min=torch.finfo(maps.dtype).tiny)


def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """BayesShrink on Haar wavelets, in YCbCr for colour images [#Chang00]_.

    The values of ``skimage.restoration.denoise_wavelet(x, sigma, convert2ycbcr=True)``, as a
    differentiable function on the device of the images.

    Args:
        x: Images ``(B, C, H, W)``; three channels count as RGB in [0, 1].
        sigma: Standard deviation of the noise, the same in all channels of x.

    Returns:
        The denoised images, of the same shape and dtype, not clipped; half precision is computed in
        ``float32``.

    References:
        .. [#Chang00] Chang, Yu, Vetterli, "Adaptive wavelet thresholding for image denoising and
           compression", IEEE Transactions on Image Processing, 2000.
    """
    if x.dtype in (torch.float16, torch.bfloat16):  # which cannot be inverted in, nor squared
        return denoise(x.float(), sigma).to(x.dtype)
    levels = max(int(min(x.shape[2:])).bit_length() - 1 - 3, 1)
    if x.shape[1] != 3:
        return _shrink(x, x.new_full((x.shape[1], 1, 1), sigma**2), levels)
    matrix = x.new_tensor(YCBCR)
    variance = sigma**2 * matrix.square().sum(1)[:, None, None]
    converted = torch.einsum("dc,bchw->bdhw", matrix, x)
    shrunk = _shrink(converted, variance, levels)
    return torch.einsum("dc,bchw->bdhw", torch.linalg.inv(matrix), shrunk)


def _shrink(x: torch.Tensor, variance: torch.Tensor, levels: int) -> torch.Tensor:
    """Soft thresholds on the details of all levels; the coarsest approximation stays."""
    height, width = x.shape[2:]
    # Odd sides are continued by their last value, as a symmetric extension does.
    even = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
    a, b = even[..., ::2, ::2], even[..., ::2, 1::2]
    c, d = even[..., 1::2, ::2], even[..., 1::2, 1::2]
    low = (a + b + c + d) / 2
    details = [(a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2]
    if levels > 1:
        low = _shrink(low, variance, levels - 1)
    h, v, e = (_soft(detail, variance) for detail in details)
    rows = [torch.stack([low + h + v + e, low - h + v - e], -1).flatten(-2)]
    rows.append(torch.stack([low + h - v - e, low - h - v + e], -1).flatten(-2))
    merged = torch.stack(rows, -2).flatten(-3, -2) / 2
    return merged[..., :height, :width]


def _soft(detail: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    energy = detail.square().mean((2, 3), keepdim=True)
    signal = (energy - variance).clamp(min=torch.finfo(detail.dtype).eps)
    return F.relu(detail.abs() - variance / signal.sqrt()) * detail.sign()
