"""Views of a sign: random transformations whose expectation an attack survives (EOT).

References:
    .. [#Atha18] Anish Athalye, Logan Engstrom, Andrew Ilyas, Kevin Kwok, "Synthesizing robust
       adversarial examples", ICML 2018.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

# A homography (3, 3) and a factor of brightness.
View = tuple[torch.Tensor, torch.Tensor]

CORNERS = ((-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0))


@dataclass(frozen=True)
class Transformations:
    """The distribution that views are drawn from; by default no transformation at all.

    Args:
        brightness: Pixels are multiplied by a factor in ``[1 - brightness, 1 + brightness]``.
        crop: A window is cut out with a side of ``[1 - crop, 1]`` of the image, and enlarged.
        rotation: The view is turned by an angle in ``[-rotation, rotation]``, in degrees . Images
            that are not square are turned as if they were, and so sheared.
        perspective: Each corner of the view moves inwards by up to this share of half a side.

    Raises:
        ValueError: If a parameter is out of range.
    """

    brightness: float = 0.0
    crop: float = 0.0
    rotation: float = 0.0
    perspective: float = 0.0

    def __post_init__(self) -> None:
        """Refuse ranges that leave nothing to see."""
        limits = {"brightness": 1.0, "crop": 1.0, "rotation": 180.0, "perspective": 1.0}
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0 <= value < limit:
                raise ValueError(f"expected {name} to be in [0, {limit:g}), got {value!r}")

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw views.

        Args:
            count: Their number K.
            generator: Where the random numbers come from; on the CPU.

        Returns:
            Homographies ``(K, 3, 3)``, which map positions in a view to positions in the image,
            both in [-1, 1], and factors of brightness ``(K,)``.
        """
        uniform = torch.rand(count, 13, generator=generator, dtype=torch.float64)
        signed = 2 * uniform - 1
        side = 1 - self.crop * uniform[:, 0, None, None]
        shift = (1 - side) * signed[:, None, 1:3]
        moved = torch.tensor(CORNERS, dtype=torch.float64) * (
            1 - self.perspective * uniform[:, 5:13].reshape(-1, 4, 2)
        )
        angle = math.radians(self.rotation) * signed[:, 3]
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1)
        corners = (moved * side + shift) @ turn.reshape(-1, 2, 2).mT
        return _homographies(corners).float(), (1 + self.brightness * signed[:, 4]).float()

    def batches(
        self, count: int, samples: int, generator: torch.Generator, like: torch.Tensor
    ) -> Iterator[list[View]]:
        """Draw views for every step of an attack.

        Args:
            count: Number of steps.
            samples: Views of each; none if all views are the image itself.
            generator: Where the random numbers come from; on the CPU.
            like: A tensor of the dtype and device of the images.
        """
        if self == Transformations():
            return iter([[] for _ in range(count)])
        homographies, factors = self.draw(count * samples, generator)
        views = list(zip(homographies.to(like), factors.to(like), strict=True))
        return (views[i * samples : (i + 1) * samples] for i in range(count))


def view(images: torch.Tensor, homography: torch.Tensor, brightness: torch.Tensor) -> torch.Tensor:
    """Images as one view shows them, bilinearly interpolated, clipped to [0, 1].

    Args:
        images: ``(N, C, H, W)`` in [0, 1]; beyond their border the outermost pixels go on.
        homography: Maps positions in the view to positions in the image, ``(3, 3)``.
        brightness: The factor, a scalar.

    Returns:
        ``(N, C, H, W)``, differentiable in the images.
    """
    height, width = images.shape[-2:]
    y, x = (
        (2 * torch.arange(side, device=images.device, dtype=homography.dtype) + 1) / side - 1
        for side in (height, width)
    )
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    points = torch.stack([grid_x, grid_y, torch.ones_like(grid_x)], -1) @ homography.mT
    grid = (points[..., :2] / points[..., 2:]).to(images)
    seen = F.grid_sample(
        images, grid.expand(len(images), -1, -1, -1), padding_mode="border", align_corners=False
    )
    return (seen * brightness).clamp(0, 1)


def _homographies(corners: torch.Tensor) -> torch.Tensor:
    """Homographies ``(K, 3, 3)`` that map the corners of [-1, 1]^2 to points ``(K, 4, 2)``."""
    rows, values = [], []
    for i, (x, y) in enumerate(CORNERS):
        for axis in range(2):
            target = corners[:, i, axis]
            point = torch.tensor([x, y, 1.0], dtype=corners.dtype).expand(len(corners), 3)
            left = torch.cat([point, 0 * point] if axis == 0 else [0 * point, point], -1)
            rows.append(torch.cat([left, -target[:, None] * point[:, :2]], -1))
            values.append(target)
    solution = torch.linalg.solve(torch.stack(rows, 1), torch.stack(values, -1))
    return torch.cat([solution, torch.ones_like(solution[:, :1])], -1).reshape(-1, 3, 3)
