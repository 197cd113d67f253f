"""The pixel graph of an image: which neighbours look alike, and by how much."""

from __future__ import annotations

from dataclasses import dataclass

import eagerpy as ep

KERNELS = ("laplacian", "gaussian")

# The degree of a pixel unlike all its neighbours underflows: floored, it stands alone, r = z.
DEGREE_FLOOR = 1e-300


@dataclass(frozen=True)
class PixelGraph:
    """The symmetrically normalised adjacency W~ = D^-1/2 W D^-1/2 of grids of pixels.

    Every pixel is joined to its 4 nearest neighbours (the spatial kernel is 1 on them and 0
    elsewhere, without wrap-around), so W~ is two tensors of edge weights. ``G`` graphs are held
    together: one an image, or one an image and channel.

    Attributes:
        vertical: Weight between pixels (i, j) and (i + 1, j), ``(G, 1, H - 1, W)``, in [0, 1].
        horizontal: Weight between pixels (i, j) and (i, j + 1), ``(G, 1, H, W - 1)``, in [0, 1].
    """

    vertical: ep.Tensor
    horizontal: ep.Tensor

    @classmethod
    def of(cls, features: ep.Tensor, kernel: str, bandwidth: float) -> PixelGraph:
        """Build the graphs of images.

        Args:
            features: Pixels, ``(G, C, H, W)``, ``float64``, scaled to [0, 1]; a pixel's feature is
                its C values. Degrees span hundreds of decades: ``float32`` would not do.
            kernel: ``"laplacian"``, exp(-||dx||_1 / bandwidth), or ``"gaussian"``,
                exp(-||dx||_2^2 / (2 bandwidth^2)).
            bandwidth: Width of the kernel, in the units of the pixels.
        """
        vertical = _kernel(features[:, :, 1:] - features[:, :, :-1], kernel, bandwidth)
        horizontal = _kernel(features[..., 1:] - features[..., :-1], kernel, bandwidth)
        above, below, left, right = _sides(vertical, horizontal)
        root_degree = (above + below + left + right).maximum(DEGREE_FLOOR).sqrt()
        # Divided one by one: the product of two degrees may underflow where neither root does.
        return cls(
            vertical / root_degree[:, :, 1:] / root_degree[:, :, :-1],
            horizontal / root_degree[..., 1:] / root_degree[..., :-1],
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of graphs, height and width."""
        return self.horizontal.shape[0], self.horizontal.shape[2], self.vertical.shape[3]

    def propagate(self, signal: ep.Tensor) -> ep.Tensor:
        """W~ v for a signal v, ``(G, C, H, W)``: every pixel collects from its neighbours."""
        down = self.vertical * signal[:, :, :-1]
        up = self.vertical * signal[:, :, 1:]
        right = self.horizontal * signal[..., :-1]
        left = self.horizontal * signal[..., 1:]
        return _end(down, 2) + _start(up, 2) + _end(right, 3) + _start(left, 3)

    def roughness(self, signal: ep.Tensor) -> ep.Tensor:
        """(I - W~) v: a quarter of the gradient of the smoothness penalty (14) with mu = 1.

        The sum over ordered pairs of w_ij ||v^_i - v^_j||^2, with v^ = D^-1/2 v, is
        2 <v, (I - W~) v>.
        """
        return signal - self.propagate(signal)

    def sides(self) -> list[ep.Tensor]:
        """Every pixel's weights to the pixels above, below, left and right, ``(G, 1, H, W)``."""
        return _sides(self.vertical, self.horizontal)

    def like(self, dummy: ep.Tensor) -> PixelGraph:
        """The same graph in the framework, on the device and in the dtype of ``dummy``."""
        return PixelGraph(like(self.vertical, dummy), like(self.horizontal, dummy))


def _kernel(difference: ep.Tensor, kernel: str, bandwidth: float) -> ep.Tensor:
    scaled = difference / bandwidth
    exponent = scaled.abs() if kernel == "laplacian" else scaled.square() / 2
    return (-exponent.sum(axis=1, keepdims=True)).exp()


def _sides(vertical: ep.Tensor, horizontal: ep.Tensor) -> list[ep.Tensor]:
    """Values on edges at the pixels below, above, right and left of them."""
    return [_end(vertical, 2), _start(vertical, 2), _end(horizontal, 3), _start(horizontal, 3)]


def _start(edges: ep.Tensor, axis: int) -> ep.Tensor:
    """Values on edges, at the pixels where the edges start; 0 where none does."""
    return edges.pad(tuple((0, int(i == axis)) for i in range(4)))


def _end(edges: ep.Tensor, axis: int) -> ep.Tensor:
    """Values on edges, at the pixels where the edges end; 0 where none does."""
    return edges.pad(tuple((int(i == axis), 0) for i in range(4)))


def like(values: ep.Tensor, dummy: ep.Tensor) -> ep.Tensor:
    """The same values in the framework, on the device and in the dtype of ``dummy``."""
    if isinstance(values, ep.NumPyTensor) and not isinstance(dummy, ep.NumPyTensor):
        values = ep.from_numpy(dummy, values.raw)
    return values.astype(dummy.dtype)
