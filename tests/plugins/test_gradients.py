from __future__ import annotations

import eagerpy as ep
import numpy as np
import pytest

from foolart.plugins.gradients import is_class, margin


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_one_class_is_one_class_whatever_integers_number_them(dtype):
    classes = np.array([0, 3, 200], dtype)
    mask = is_class(ep.zeros(ep.astensor(np.zeros(0)), (3, 600)), ep.astensor(classes)).raw
    np.testing.assert_array_equal(np.argwhere(mask), [[0, 0], [1, 3], [2, 200]])


def test_the_margin_is_the_lead_over_the_next_class():
    outputs = ep.astensor(np.array([[1.0, 4.0, 2.5], [3.0, 0.5, -1.0]]))
    classes = ep.astensor(np.array([1, 2]))
    np.testing.assert_array_equal(margin(outputs, classes).raw, [1.5, -4.0])
    np.testing.assert_array_equal(margin(outputs, classes, targeted=True).raw, [-1.5, 4.0])
