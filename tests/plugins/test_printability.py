"""The non-printability score against its definition."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from foolart.plugins.printability import (  # noqa: E402
    log_non_printability,
    non_printability,
    printable_palette,
)


def test_the_score_is_the_sum_of_products():
    rng = np.random.default_rng(0)
    pixels = rng.uniform(-0.2, 1.2, (2, 3, 4, 5))
    mask = (rng.uniform(size=(1, 1, 4, 5)) > 0.5).astype(float)
    palette = rng.uniform(size=(6, 3))
    expected = np.zeros(2)
    for n in range(2):
        for i in range(4):
            for j in range(5):
                distances = [np.linalg.norm(pixels[n, :, i, j] - colour) for colour in palette]
                expected[n] += mask[0, 0, i, j] * np.prod(distances)
    got = non_printability(*map(torch.from_numpy, (pixels, mask, palette)))
    np.testing.assert_allclose(got, expected, rtol=1e-7)


def test_products_that_underflow_keep_their_logarithm():
    palette = torch.rand(600, 3, generator=torch.Generator().manual_seed(0)) * 0.2
    pixel = torch.full((1, 3, 1, 1), 0.1)
    distances = np.linalg.norm(palette.double().numpy() - 0.1, axis=1)
    expected = np.log(distances).sum()
    assert np.exp(np.float32(expected)) == 0
    assert log_non_printability(pixel, palette).item() == pytest.approx(expected, rel=1e-4)


def test_a_printable_colour_scores_nothing_and_has_a_gradient():
    palette = torch.tensor([[0.2, 0.5, 0.7], [0.9, 0.1, 0.1]])
    pixels = palette[0].reshape(1, 3, 1, 1).clone().requires_grad_()
    score = non_printability(pixels, torch.ones(1, 1, 1, 1), palette)
    assert score.item() == pytest.approx(0, abs=1e-5)
    score.backward()
    assert torch.isfinite(pixels.grad).all()


@pytest.mark.parametrize(
    ("colours", "message"),
    [
        (np.zeros((0, 3)), "at least one RGB triplet"),
        ([0.1, 0.2, 0.3], "at least one RGB triplet"),
        (np.zeros((4, 4)), "at least one RGB triplet"),
        ([[255, 0, 0]], "divide 8-bit colours by 255"),
        ([[float("nan"), 0, 0]], r"in \[0, 1\]"),
    ],
)
def test_a_bad_palette_is_refused(colours, message):
    with pytest.raises(ValueError, match=message):
        printable_palette(colours)
