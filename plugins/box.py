"""The box that images live in, and its grid of levels."""

from __future__ import annotations

from dataclasses import dataclass

import eagerpy as ep


def rint(values: ep.Tensor) -> ep.Tensor:
    """Round to the nearest integer, halves to even: eagerpy has no rounding of its own.

    Args:
        values: Tensor of any shape, ``float32`` (below 2**22) or ``float64`` (below 2**51).

    Returns:
        A tensor of the same shape and dtype. It has no derivative: round outside loss functions.
    """
    if hasattr(values.raw, "round"):  # PyTorch, JAX, NumPy
        return ep.astensor(values.raw.round())
    # TensorFlow: adding 1.5 * 2**mantissa pushes the fraction out of the mantissa.
    magic = 1.5 * 2.0**52 if "64" in str(values.dtype) else 1.5 * 2.0**23
    return (values + magic) - magic


@dataclass(frozen=True)
class Box:
    """The model's bounds and, for digital images, the number of levels between them.

    Attacks compute in *steps* of this grid, so that nothing depends on the bounds: ``encode`` maps
    ``[lower, upper]`` to ``[0, top]``, where ``top`` is ``levels - 1``, or 1 for a continuous box.

    Args:
        lower: Smallest value that an input may take.
        upper: Largest value that an input may take.
        levels: Number of equidistant values, ends included (256 for 8-bit images), or ``None`` for
            continuous inputs, which also serves inputs that are no images.

    Raises:
        ValueError: If the bounds are not finite and increasing, or ``levels`` is below 2 or above
            65536.
    """

    lower: float
    upper: float
    levels: int | None = 256

    def __post_init__(self) -> None:
        """Refuse a box that is empty or a grid that float32 cannot hold."""
        if not self.lower < self.upper or self.upper - self.lower == float("inf"):
            raise ValueError(
                f"expected finite bounds with lower < upper, got ({self.lower}, {self.upper})"
            )
        check_levels(self.levels)

    @property
    def top(self) -> float:
        """The largest value after :meth:`encode`; the smallest is 0."""
        return 1.0 if self.levels is None else float(self.levels - 1)

    @property
    def step(self) -> float:
        """The length of one encoded unit, in the units of the bounds."""
        return (self.upper - self.lower) / self.top

    @property
    def noise(self) -> float:
        """Float32 noise of encoded values, several roundings at the top: less than this is none."""
        return self.top * 2.0**-20

    def encode(self, x: ep.Tensor) -> ep.Tensor:
        """Map inputs within the bounds to ``[0, top]``; grid points land on integers, up to noise.

        Half precision is computed in ``float32``; other dtypes are kept.
        """
        if "float16" in str(x.dtype):  # or bfloat16
            x = x.float32()
        return (x - self.lower) * (self.top / (self.upper - self.lower))

    def decode(self, k: ep.Tensor, dtype: object = None) -> ep.Tensor:
        """Map ``[0, top]`` back to the bounds, by the formula of ``foolbox.utils.samples``.

        Args:
            k: Encoded values.
            dtype: The dtype to return, by default that of ``k``.
        """
        span = self.upper - self.lower
        if span != self.top:
            k = (k if span == 1 else k * span) / self.top
        x = k if self.lower == 0 else k + self.lower
        return x if dtype is None or x.dtype == dtype else x.astype(dtype)

    def quantize(self, k: ep.Tensor) -> ep.Tensor:
        """Clip encoded values to the box and, if it has levels, round them to the grid."""
        if self.levels is None:
            return k.clip(0, self.top)
        if isinstance(k, ep.PyTorchTensor):  # in one tensor
            return ep.astensor(k.raw.round().clamp_(0, self.top))
        return rint(k).clip(0, self.top)

    def off_grid(self, x: ep.Tensor, tolerance: float = 1e-2) -> ep.Tensor:
        """The largest distance of any element of an input to its nearest level, above tolerance.

        Args:
            x: Inputs of shape ``(N, ...)`` in the units of the bounds.
            tolerance: Distance, as a share of a level, that passes as float noise.

        Returns:
            Boolean tensor of shape ``(N,)``: True where an input does not lie on the grid.
            ``float16`` may miss it by its own rounding, where that still tells levels apart.
        """
        rounding = 2.0**-11 * max(abs(self.lower), abs(self.upper)) / self.step
        half = "float16" in str(x.dtype) and "bfloat16" not in str(x.dtype)
        if half and tolerance + rounding < 0.5:
            tolerance += rounding
        k = self.encode(x)
        flat = (k - rint(k)).abs().reshape((len(x), -1))
        return flat.max(axis=-1) > tolerance


def check_levels(levels: int | None) -> None:
    """Refuse a number of levels that is no grid, at an attack's constructor.

    Raises:
        ValueError: If ``levels`` is neither ``None`` nor an integer from 2 to 65536.
    """
    if levels is None:
        return
    if isinstance(levels, bool | str) or not 2 <= levels <= 65536 or int(levels) != levels:
        raise ValueError(
            f"expected levels to be None (continuous) or an integer from 2 to 65536, got {levels!r}"
        )
