"""The low-frequency projection against SciPy's cosine transform."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dctn, idctn

torch = pytest.importorskip("torch")

from foolart.plugins.low_frequency import LowFrequencies  # noqa: E402


@pytest.mark.parametrize(("height", "width", "keep"), [(8, 8, 3), (7, 12, 1), (5, 4, 9)])
def test_high_frequencies_of_the_cosine_transform_are_removed(height, width, keep):
    maps = np.random.default_rng(0).normal(size=(2, 3, height, width))
    spectrum = dctn(maps, axes=(2, 3), norm="ortho")
    spectrum[:, :, keep:] = 0
    spectrum[:, :, :, keep:] = 0
    low = LowFrequencies(height, width, keep)
    got = low(torch.from_numpy(maps))
    np.testing.assert_allclose(got, idctn(spectrum, axes=(2, 3), norm="ortho"), atol=1e-12)
    np.testing.assert_allclose(low(got), got, atol=1e-12)


def test_nothing_to_keep_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        LowFrequencies(8, 8, 0)
