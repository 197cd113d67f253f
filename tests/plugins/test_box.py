from __future__ import annotations

import eagerpy as ep
import numpy as np
import pytest

from foolart.plugins.box import Box


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (0, 255)])
def test_digital_images_of_every_precision_lie_on_the_grid(bounds, dtype):
    box = Box(*bounds)
    levels = np.arange(256.0).reshape(4, 64)
    x = ep.astensor(box.decode(ep.astensor(levels)).raw.astype(dtype))
    assert not box.off_grid(x).raw.any()
    assert (box.quantize(box.encode(x)).raw == levels).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_what_lies_between_levels_is_found_in_every_precision(dtype):
    box = Box(0, 1)
    levels = np.array([[3.0, 200.0], [3.0, 200.5], [3.3, 200.0]])
    x = ep.astensor((levels / 255).astype(dtype))
    assert box.off_grid(x).raw.tolist() == [False, True, True]


@pytest.mark.parametrize("levels", [1, 65537, 2.5, float("nan"), float("inf"), True, "256"])
def test_what_is_no_number_of_levels_is_refused(levels):
    with pytest.raises(ValueError, match="expected levels to be None"):
        Box(0, 1, levels)


def test_a_grid_finer_than_half_precision_is_not_taken_for_granted():
    x = ep.astensor((np.arange(1000.0)[None] / 65535).astype(np.float16) + np.float16(0.5))
    assert Box(0, 1, 65536).off_grid(x).raw.all()
