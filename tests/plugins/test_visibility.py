from __future__ import annotations

import eagerpy as ep
import numpy as np
import pytest

from foolart.plugins.visibility import noise_visibility


def image(shape=(2, 3, 9, 7), seed=0):
    return np.random.default_rng(seed).uniform(size=shape)


def brute_force(x, depth=75.0):
    variance = np.empty_like(x)
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            window = x[:, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            variance[:, :, i, j] = window.var(axis=(2, 3))
    largest = variance.max(axis=(1, 2, 3), keepdims=True)
    return 1 / (1 + depth * variance / largest)


@pytest.mark.parametrize("depth", [10.0, 75.0])
def test_it_is_the_formula_on_3x3_windows(depth):
    x = image()
    weights = noise_visibility(ep.astensor(x), depth=depth).numpy()
    np.testing.assert_allclose(weights, brute_force(x, depth), rtol=1e-6)


def test_channels_may_come_last():
    x = image()
    first = noise_visibility(ep.astensor(x)).numpy()
    for axis in (3, -1):
        last = noise_visibility(ep.astensor(x.transpose(0, 2, 3, 1)), channel_axis=axis).numpy()
        np.testing.assert_allclose(last.transpose(0, 3, 1, 2), first)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_image_is_flat_everywhere(value):
    x = np.full((1, 3, 6, 6), value, dtype=np.float32)
    np.testing.assert_allclose(noise_visibility(ep.astensor(x)).numpy(), 1, atol=1e-3)


def test_an_image_does_not_depend_on_its_batch():
    x = image()
    together = noise_visibility(ep.astensor(x)).numpy()
    np.testing.assert_allclose(noise_visibility(ep.astensor(x[1:])).numpy(), together[1:])


def test_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match="expected images"):
        noise_visibility(ep.astensor(image()[0]))
    with pytest.raises(ValueError, match="expected depth"):
        noise_visibility(ep.astensor(image()), depth=-1)
