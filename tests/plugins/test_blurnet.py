"""BlurNet's filters and penalties against SciPy and their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter1d, uniform_filter

torch = pytest.importorskip("torch")

from foolart.plugins.blurnet import (  # noqa: E402
    Blur,
    DepthwiseBlur,
    high_frequency_energy,
    linf_penalty,
    total_variation,
)


@pytest.fixture
def maps():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(2, 4, 9, 7)))


@pytest.mark.parametrize("size", [1, 3, 5, 7])
@pytest.mark.parametrize(("padding", "mode"), [("zeros", "constant"), ("reflect", "mirror")])
def test_a_box_blur_is_that_of_scipy(maps, size, padding, mode):
    blur = Blur(size, padding=padding).double()
    expected = uniform_filter(maps.numpy(), (0, 0, size, size), mode=mode)
    np.testing.assert_allclose(blur(maps), expected, atol=1e-7)
    assert not list(blur.parameters())
    trainable = DepthwiseBlur(4, size, padding).double()
    torch.testing.assert_close(trainable(maps), blur(maps))


def test_a_gaussian_blur_is_that_of_scipy(maps):
    blur = Blur(5, "gaussian").double()
    impulse = np.zeros(5)
    impulse[2] = 1
    line = gaussian_filter1d(impulse, 5 / 4, mode="constant", radius=2)
    expected = [[convolve(m, np.outer(line, line), mode="constant") for m in x] for x in maps]
    np.testing.assert_allclose(blur(maps), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_blur_keeps_the_precision_of_the_maps(maps, dtype):
    found = Blur(3)(maps.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), Blur(3).double()(maps.double()), rtol=0, atol=2e-3)


def test_a_trainable_blur_starts_as_a_box():
    blur = DepthwiseBlur(3, 3)
    assert [p.shape for p in blur.parameters()] == [(3, 1, 3, 3)]
    torch.testing.assert_close(blur.weight, torch.full((3, 1, 3, 3), 1 / 9))
    blur(torch.rand(1, 3, 4, 4)).sum().backward()
    assert blur.weight.grad.abs().sum() > 0


def test_bad_blurs_are_refused(maps):
    for options, message in [
        ({"size": 4}, "odd size"),
        ({"size": -1}, "odd size"),
        ({"size": 5.0}, "odd size"),
        ({"kernel": "disc"}, r"kernel to be one of \('box', 'gaussian'\)"),
        ({"padding": "same"}, "padding"),
    ]:
        with pytest.raises(ValueError, match=message):
            Blur(**options)
    with pytest.raises(ValueError, match=r"feature maps \(N, 3, H, W\).*\(2, 4, 9, 7\)"):
        DepthwiseBlur(3).double()(maps)
    with pytest.raises(ValueError, match="odd size"):
        DepthwiseBlur(3, 2)
    for blur in (Blur(), DepthwiseBlur(3)):
        with pytest.raises(ValueError, match="convolutional"):
            blur(torch.rand(2, 3))


def test_the_linf_penalty_is_least_for_a_box():
    weight = torch.rand(5, 1, 3, 3, generator=torch.Generator().manual_seed(0)) - 0.3
    expected = sum(np.abs(kernel).max() for kernel in weight.numpy())
    assert linf_penalty(weight).item() == pytest.approx(expected)
    box = weight.mean((2, 3), keepdim=True).expand_as(weight)
    assert linf_penalty(box) < linf_penalty(weight)


def test_total_variation_is_its_formula(maps):
    def formula(x):
        total = 0.0
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                total += abs(x[i + 1, j] - x[i, j]) if i + 1 < x.shape[0] else 0
                total += abs(x[i, j + 1] - x[i, j]) if j + 1 < x.shape[1] else 0
        return total

    expected = [np.mean([formula(m) for m in x]) for x in maps.numpy()]
    np.testing.assert_allclose(total_variation(maps), expected, rtol=1e-3)


def test_isotropic_variation_does_not_prefer_axes():
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    straight, oblique = x, (x + y) / 2**0.5
    maps = torch.stack([straight, oblique])[:, None]
    isotropic = total_variation(maps, isotropic=True)
    anisotropic = total_variation(maps)
    assert isotropic[1] == pytest.approx(isotropic[0].item(), rel=1e-3)
    assert anisotropic[1] > 1.4 * anisotropic[0]


def test_the_variation_of_constant_maps_has_a_gradient():
    maps = torch.ones(1, 2, 5, 5, requires_grad=True)
    for penalty in (total_variation, lambda m: total_variation(m, isotropic=True)):
        (gradient,) = torch.autograd.grad(penalty(maps).sum(), maps)
        assert (gradient == 0).all()


def test_high_frequency_energy_is_what_a_blur_removes(maps):
    blurred = uniform_filter(maps.numpy(), (0, 0, 3, 3), mode="nearest")
    expected = ((maps.numpy() - blurred) ** 2).sum((2, 3)).mean(1)
    np.testing.assert_allclose(high_frequency_energy(maps, 3), expected, rtol=1e-6)
    assert high_frequency_energy(torch.ones(1, 2, 6, 6)).item() == pytest.approx(0, abs=1e-9)
