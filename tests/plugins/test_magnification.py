"""Magnification against the formula, written out pixel by pixel in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from foolart.plugins import magnification
from foolart.plugins.magnification import magnify


def by_loops(image, domain_sigma, range_sigma, beta):
    """Equation 22 of one image (C, H, W), as printed, with the two errata of the docstring."""
    _, height, width = image.shape
    reach = math.ceil(2.326 * domain_sigma)

    def bilateral(z):
        out = np.zeros_like(z)
        for y in range(height):
            for x in range(width):
                total, mass = 0.0, 0.0
                for v in range(max(0, y - reach), min(height, y + reach + 1)):
                    for u in range(max(0, x - reach), min(width, x + reach + 1)):
                        domain = np.exp(-((v - y) ** 2 + (u - x) ** 2) / (2 * domain_sigma**2))
                        colour = np.sum((image[:, v, u] - image[:, y, x]) ** 2)
                        weight = domain * np.exp(-colour / (2 * range_sigma**2))
                        total, mass = total + weight * z[:, v, u], mass + weight
                out[:, y, x] = total / mass
        return out

    mean = bilateral(image)
    deviation = np.sqrt(bilateral((image - mean) ** 2))
    overall = image.std((1, 2), keepdims=True)
    return (image - mean) / (beta * deviation + (1 - beta) * overall)


def random_images(shape, seed=0):
    rng = np.random.default_rng(seed)
    smooth = np.linspace(0.2, 0.7, shape[-1]) * np.linspace(0.5, 1, shape[-2])[:, None]
    return np.clip(smooth + rng.normal(0, 0.08, shape), 0, 1)


@pytest.mark.parametrize(
    ("shape", "domain_sigma", "range_sigma", "beta"),
    [
        ((2, 3, 7, 9), 1.0, 0.2, 0.8),
        ((1, 3, 12, 5), 5.0, 0.2, 0.8),
        ((1, 1, 8, 8), 0.4, 0.05, 0.3),
        ((1, 2, 1, 9), 2.0, 5.0, 1.0),
        ((1, 4, 6, 1), 2.0, 0.1, 0.0),
    ],
)
def test_magnification_is_the_formula(shape, domain_sigma, range_sigma, beta):
    images = random_images(shape)
    expected = [by_loops(image, domain_sigma, range_sigma, beta) for image in images]
    got = magnify(images, domain_sigma=domain_sigma, range_sigma=range_sigma, beta=beta)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_torch_and_single_precision_agree(monkeypatch):
    torch = pytest.importorskip("torch")
    images = random_images((3, 3, 40, 33))
    expected = magnify(images)
    before = torch.from_numpy(images).float()
    tensor = before.clone().requires_grad_()
    got = magnify(tensor)
    assert got.dtype == torch.float32
    assert not got.requires_grad
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(tensor, before)
    monkeypatch.setattr(magnification, "CHUNK_CPU", 1)
    assert torch.equal(magnify(tensor), got)
    half = magnify(tensor.half())
    assert half.dtype == torch.float16
    np.testing.assert_allclose(half.float(), magnify(tensor.half().float()), rtol=1e-3, atol=1e-3)


def test_jax_arrays_come_back_as_such():
    jax = pytest.importorskip("jax")
    images = jax.numpy.asarray(random_images((1, 3, 9, 8)), dtype="float32")
    got = magnify(images)
    assert isinstance(got, type(images))
    np.testing.assert_allclose(got, magnify(np.asarray(images)), rtol=1e-6)


def test_constant_images_have_nothing_to_magnify():
    images = np.full((1, 3, 20, 20), 0.3, np.float32)
    images[0, 1, 3, 4] = 1.0
    for beta in (0.0, 0.8, 1.0):
        got = magnify(images, domain_sigma=1, beta=beta)
        assert np.isfinite(got).all()
        assert (got[0, [0, 2]] == 0).all()
        assert (got[0, 1, 8:, :] == 0).all()
        # A range kernel of 0.2 nearly isolates a pixel 0.7 away, but not quite.
        assert got[0, 1, 3, 4] > 0


def test_noise_is_magnified_and_gradients_are_not():
    ramp = np.broadcast_to(np.linspace(0.3, 0.6, 48), (1, 1, 48, 48)).copy()
    noise = np.random.default_rng(0).normal(0, 0.01, ramp.shape)
    inner = np.s_[:, :, 14:-14, 14:-14]
    clean, noisy = magnify(ramp)[inner], magnify(ramp + noise)[inner]
    assert np.abs(clean).max() < 1e-3
    assert noisy.std() > 0.3
    assert np.corrcoef(noisy.ravel(), noise[inner].ravel())[0, 1] > 0.95


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.zeros((3, 8, 8)), {}, r"shape \(N, C, H, W\)"),
        (np.zeros((0, 3, 8, 8)), {}, r"shape \(N, C, H, W\)"),
        (np.zeros((1, 3, 8, 8), np.uint8), {}, "float dtype"),
        (np.full((1, 3, 8, 8), 255.0), {}, r"in \[0, 1\]"),
        (np.full((1, 3, 8, 8), np.nan), {}, r"in \[0, 1\]"),
        (np.zeros((1, 3, 8, 8)), {"beta": 1.5}, "beta"),
        (np.zeros((1, 3, 8, 8)), {"domain_sigma": 0}, "domain_sigma"),
        (np.zeros((1, 3, 8, 8)), {"range_sigma": math.inf}, "range_sigma"),
    ],
)
def test_bad_input_is_refused(images, options, message):
    with pytest.raises(ValueError, match=message):
        magnify(images, **options)
