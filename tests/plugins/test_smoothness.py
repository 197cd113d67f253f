from __future__ import annotations

import eagerpy as ep
import numpy as np
import pytest

from foolart.plugins.adam import Adam
from foolart.plugins.smoothing import GuidedSmoothing
from foolart.plugins.smoothness import Constraint, Free, Penalty, Relaxation, Smoothness

torch = pytest.importorskip("torch")

MU, ALPHA = 0.7, 0.9


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture(scope="module")
def smoothing(x: torch.Tensor) -> GuidedSmoothing:
    return GuidedSmoothing(x, ALPHA, bandwidth=0.3)


def roughness(x: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """The sum of equations (6) and (14) over ordered pairs, by its definition."""
    n, channels = x.shape[2] * x.shape[3], x.shape[1]
    i, j = (torch.stack(torch.meshgrid(torch.arange(6), torch.arange(5), indexing="ij"))).view(2, n)
    near = (i[:, None] - i).abs() + (j[:, None] - j).abs() == 1
    pixels = x.reshape(len(x), channels, n)
    w = near * (-(pixels[..., :, None] - pixels[..., None, :]).abs().sum(dim=1) / 0.3).exp()
    scaled = r.reshape(len(x), channels, n) / w.sum(dim=-1).sqrt().unsqueeze(1)
    squares = (scaled[..., :, None] - scaled[..., None, :]).square().sum(dim=1)
    return (w * squares).sum()


def check(form: Smoothness, v: torch.Tensor, loss: object) -> None:
    """Compare a form's gradient with PyTorch's, for a loss <r, target> + its own part."""
    v = v.requires_grad_()
    r = form.perturbation(ep.astensor(v)).raw
    target = torch.linspace(-1, 1, r.numel(), dtype=r.dtype).view(r.shape)
    (expected,) = torch.autograd.grad((r * target).sum() + loss(v, r), v)  # type: ignore[operator]
    with torch.no_grad():
        actual = form.gradient(*(ep.astensor(t.detach()) for t in (v, r, target)))
    torch.testing.assert_close(actual.raw, expected)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).double()


def test_gradients_are_those_of_the_losses(smoothing: GuidedSmoothing, x: torch.Tensor) -> None:
    def phi(v: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        apart = (r - v[len(x) :]).square().sum()
        return MU * (ALPHA / 2 * roughness(x, r) + (1 - ALPHA) * apart)

    check(Free(), noise(*x.shape), lambda v, r: 0)
    check(Constraint(smoothing), noise(*x.shape), lambda v, r: 0)
    check(Penalty(smoothing, MU), noise(*x.shape), lambda v, r: MU * roughness(x, r))
    check(Relaxation(smoothing, MU), noise(4, *x.shape[1:]), phi)


def test_all_start_without_a_perturbation(smoothing: GuidedSmoothing, x: torch.Tensor) -> None:
    for form in (Free(), Constraint(smoothing), Penalty(smoothing, MU), Relaxation(smoothing, MU)):
        r = form.perturbation(form.start(ep.astensor(x)))
        assert r.shape == x.shape
        assert not r.raw.any()


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_adam_is_pytorchs(framework: str) -> None:
    start = noise(3, 4).numpy().astype(np.float32)
    if framework == "jax":
        convert = pytest.importorskip("jax.numpy").asarray
    else:
        convert = torch.from_numpy if framework == "torch" else np.asarray
    reference = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = torch.optim.Adam([reference], lr=0.1)
    adam = Adam(ep.astensor(convert(start)), 0.1)
    for i in range(5):
        gradient = (np.sin(np.arange(12) + i).reshape(3, 4) * 10.0**-i).astype(np.float32)
        gradient[0] = 0
        reference.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        value = adam.step(ep.astensor(convert(gradient)))
        np.testing.assert_allclose(np.asarray(value.raw), reference.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(start, noise(3, 4).numpy().astype(np.float32))
