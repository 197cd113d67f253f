"""The filters and local statistics behind Most Apparent Distortion."""

from __future__ import annotations

import numpy as np
import pytest

from foolart.plugins.visual import block_moments, contrast_sensitivity, log_gabor_bank


@pytest.mark.parametrize("size", [8, 16])
def test_block_moments_are_those_of_numpy(size):
    z = 1000 + 0.01 * np.random.default_rng(0).normal(size=(2, 45, 38))
    moments = block_moments(z, size)
    for i in range(moments[0].shape[1]):
        for j in range(moments[0].shape[2]):
            block = z[:, 4 * i : 4 * i + size, 4 * j : 4 * j + size].reshape(2, -1)
            d = block - block.mean(1, keepdims=True)
            np.testing.assert_allclose(moments[0][:, i, j], block.mean(1), rtol=1e-14)
            for k in (2, 3, 4):
                np.testing.assert_allclose(
                    moments[k - 1][:, i, j], (d**k).mean(1), rtol=1e-7, atol=1e-9 * 0.01**k
                )
    assert moments[0].shape[1:] == ((45 - size) // 4 + 1, (38 - size) // 4 + 1)


def test_gabor_filters_pass_their_wavelength_and_orientation():
    side = 81
    i, j = np.mgrid[:side, :side]
    waves = {0: j, 1: j - i, 2: i, 3: i + j}  # orientation k looks along k * 45 degrees, y upwards
    for scale in range(2):
        bank = [gabor for s, gabor in log_gabor_bank(side, side, 2) if s == scale]
        for axis, phase in waves.items():
            wave = np.cos(2 * np.pi * phase / 3 ** (scale + 1))
            energy = [np.abs(np.fft.ifft2(np.fft.fft2(wave) * gabor)).mean() for gabor in bank]
            assert np.argmax(energy) == axis
        assert all(gabor[0, 0] == 0 and gabor.max() <= 1 for gabor in bank)


def test_contrast_sensitivity_falls_towards_high_frequencies():
    csf = contrast_sensitivity(64, 64)
    assert csf[0, 0] == csf[1, 1] == 0.9809
    assert (np.diff(csf[0, 8:32]) < 0).all()
    # Oblique frequencies are seen worse than straight ones of the same length.
    assert csf[14, 14] < csf[0, 20]
