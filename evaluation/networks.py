"""The small networks of the papers, with inputs in [0, 1] and logits as outputs.

Each is a function that builds the network, on request with weights from a file; in scenarios and
on the command line ``foolart.evaluation.networks:lisa_cnn(weights="lisa.safetensors")``.

References:
    .. [#Eykh18] Kevin Eykholt et al., "Robust physical-world attacks on deep learning visual
       classification", CVPR 2018.
    .. [#Zhan21] Hanwei Zhang, "Deep learning in adversarial context", PhD thesis, 2021, section 3.
    .. [#He15] Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun, "Deep residual learning for image
       recognition", https://arxiv.org/abs/1512.03385, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from foolart.adapters.weights import load_weights, read_tensors
from foolart.plugins.blurnet import DepthwiseBlur
from foolart.plugins.guard import guard

BLUR = ".defence.weight"


class FourLayers(nn.Module):
    """Three convolutions and a dense layer, the example network of CleverHans.

    Args:
        size: Height and width of the images.
        channels: Their channels.
        classes: Number of outputs.
        slope: Slope of the LeakyReLU below 0.
    """

    def __init__(self, size: int, channels: int, classes: int, slope: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 8, stride=2, padding=3)
        self.relu1 = nn.LeakyReLU(slope) if slope else nn.ReLU()
        self.conv2 = nn.Conv2d(64, 128, 6, stride=2)
        self.relu2 = nn.LeakyReLU(slope) if slope else nn.ReLU()
        self.conv3 = nn.Conv2d(128, 128, 5)
        self.relu3 = nn.LeakyReLU(slope) if slope else nn.ReLU()
        side = ((size // 2) - 6) // 2 + 1 - 4
        self.dense = nn.Linear(128 * side * side, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, classes)`` of images ``(N, channels, size, size)``."""
        x = self.relu1(self.conv1(x))
        x = self.relu2(self.conv2(x))
        x = self.relu3(self.conv3(x))
        logits: torch.Tensor = self.dense(x.flatten(1))
        return logits


class NineLayers(nn.Module):
    """The thesis's CIFAR-10 network: nine convolutions with batch norm, and a dense layer."""

    def __init__(self, channels: int = 3, classes: int = 10) -> None:
        super().__init__()
        plan: list[tuple[int, int]] = (
            [(128, 1)] * 3 + [(256, 1)] * 3 + [(512, 0), (256, 0), (128, 0)]
        )
        layers: list[nn.Module] = []
        for i, (width, padding) in enumerate(plan):
            convolution = nn.Conv2d(channels, width, 3, padding=padding)
            nn.init.kaiming_normal_(convolution.weight)
            layers += [convolution, nn.BatchNorm2d(width), nn.LeakyReLU(0.1)]
            if i in (2, 5):
                layers += [nn.MaxPool2d(2), nn.Dropout(0.5)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.dense = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, classes)`` of images ``(N, channels, 32, 32)``."""
        logits: torch.Tensor = self.dense(self.features(x).mean((2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters (option A of [#He15]_)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.added = stride, width - channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features of half the size where the stride is 2."""
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        before = self.added // 2
        return F.relu(inner + F.pad(shortcut, (0, 0, 0, 0, before, self.added - before)))


class ResNet(nn.Module):
    """The ResNet of 6 n + 2 layers for 32x32 images [#He15]_.

    Args:
        blocks: n, blocks of each of the three stages.
        channels: Channels of the images.
        classes: Number of outputs.
        mean: Subtracted from images in [0, 1], one value a channel.
        std: Divides them afterwards.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        blocks: int,
        channels: int = 3,
        classes: int = 10,
        mean: tuple[float, ...] = (0.485, 0.456, 0.406),
        std: tuple[float, ...] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            tensor = torch.tensor(values).reshape(-1, 1, 1)
            self.register_buffer(name, tensor, persistent=False)
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(blocks, 16, 16, 1)
        self.layer2 = self._stage(blocks, 16, 32, 2)
        self.layer3 = self._stage(blocks, 32, 64, 2)
        self.linear = nn.Linear(64, classes)

    @staticmethod
    def _stage(blocks: int, channels: int, width: int, stride: int) -> nn.Sequential:
        first = BasicBlock(channels, width, stride)
        return nn.Sequential(first, *(BasicBlock(width, width, 1) for _ in range(blocks - 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, classes)`` of images ``(N, channels, H, W)``."""
        x = F.relu(self.bn1(self.conv1((x - self.mean) / self.std)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: torch.Tensor = self.linear(x.mean((2, 3)))
        return logits


Weights = str | Path | None


def lisa_cnn(weights: Weights = None, *, classes: int = 18) -> nn.Module:
    """The traffic sign classifier of RP2 and BlurNet, 32x32 RGB [#Eykh18]_.

    Args:
        weights: A file, also one with the arrays of the published TensorFlow checkpoint.
        classes: Number of classes; 18 in LISA, where class 0 is unused and 14 is stop.
    """
    return _with_weights(FourLayers(32, 3, classes), weights)


def c4(weights: Weights = None, *, classes: int = 10) -> nn.Module:
    """The MNIST network of the smooth-adversarial papers and the thesis, 28x28 gray [#Zhan21]_.

    The slope of its LeakyReLU is not given; this is 0.1, which they give for CIFAR-10.
    """
    return _with_weights(FourLayers(28, 1, classes, slope=0.1), weights)


def c9(weights: Weights = None, *, channels: int = 3, classes: int = 10) -> nn.Module:
    """The nine-layer CIFAR-10 network of the thesis, 32x32 [#Zhan21]_."""
    return _with_weights(NineLayers(channels, classes), weights)


def resnet8(weights: Weights = None, *, classes: int = 10) -> nn.Module:
    """A ResNet of 8 layers for 32x32 RGB images [#He15]_."""
    return _with_weights(ResNet(1, classes=classes), weights)


def resnet20(weights: Weights = None, *, classes: int = 10) -> nn.Module:
    """A ResNet of 20 layers for 32x32 RGB images [#He15]_."""
    return _with_weights(ResNet(3, classes=classes), weights)


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "lisa-cnn": lisa_cnn,
    "c4": c4,
    "c9": c9,
    "resnet8": resnet8,
    "resnet20": resnet20,
}


def build(name: str, weights: Weights = None, **options: int) -> nn.Module:
    """Build a network by name.

    Raises:
        ValueError: For an unknown name, or weights that do not fit.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}: expected one of {', '.join(NETWORKS)}")
    return NETWORKS[name](weights, **options)


def _with_weights(network: nn.Module, weights: Weights) -> nn.Module:
    if weights is None:
        return network.eval()
    path = Path(weights)
    # Networks that were trained under the L_inf penalty bring their blur.
    blurs = {
        name.removesuffix(BLUR): DepthwiseBlur(len(tensor), tensor.shape[-1])
        for name, tensor in read_tensors(path).items()
        if name.endswith(BLUR) and tensor.ndim == 4
    }
    network = guard(network, blurs)
    load_weights(network, path)
    return network.eval()
