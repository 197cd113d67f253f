"""Stickers: what they change, the masks they take, and their two stages."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from foolart.plugins.sticker import Sticker, as_mask, strongest  # noqa: E402


@pytest.fixture
def x():
    return torch.rand(3, 3, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mask():
    mask = torch.zeros(1, 1, 6, 5)
    mask[..., 1:4, 2:] = 1
    return mask


def test_added_stickers(x, mask):
    delta = torch.randn(1, 3, 6, 5, generator=torch.Generator().manual_seed(1))
    sticker = Sticker(delta, mask)
    composed = sticker(x)
    inside = mask.bool().expand_as(x)
    torch.testing.assert_close(composed[inside], (x + delta).clamp(0, 1)[inside])
    assert torch.equal(composed[~inside], x[~inside])
    torch.testing.assert_close(sticker.perturbation(x), (mask * delta))


def test_opaque_stickers(x, mask):
    colours = torch.rand(3, 3, 6, 5)
    sticker = Sticker(colours, mask, "replace")
    inside = mask.bool().expand_as(x)
    assert torch.equal(sticker(x)[inside], colours[inside])
    assert torch.equal(sticker(x)[~inside], x[~inside])
    torch.testing.assert_close(x + sticker.perturbation(x), sticker(x))
    part = sticker.rows(slice(1, 3))
    assert torch.equal(part(x[1:]), sticker(x)[1:])


def test_a_printed_sticker_looks_as_the_added_one_on_average(x, mask):
    shared = Sticker(torch.full((1, 3, 6, 5), 0.3), mask).printed(x)
    assert shared.compose == "replace"
    inside = mask.bool().expand_as(x[:1])
    expected = (x + 0.3).clamp(0, 1).mean(0, keepdim=True)
    torch.testing.assert_close(shared(x)[:1][inside], expected[inside])
    own = Sticker(torch.full((3, 3, 6, 5), 0.3), mask).printed(x)
    torch.testing.assert_close(own(x), Sticker(torch.full((1, 3, 6, 5), 0.3), mask)(x))


@pytest.mark.parametrize("shape", [(6, 5), (1, 6, 5), (1, 1, 6, 5), (3, 6, 5), (3, 1, 6, 5)])
def test_masks_of_several_shapes(x, mask, shape):
    given = (255 * mask[0, 0].numpy()).astype(np.uint8)
    got = as_mask(np.broadcast_to(given, shape), x)
    assert got.dtype == x.dtype
    assert got.shape == (3 if len(shape) == 4 and shape[0] == 3 else 1, 1, 6, 5)
    assert torch.equal(got[-1:], mask)


def test_no_mask_is_everything(x):
    assert torch.equal(as_mask(None, x), torch.ones(1, 1, 6, 5))


def test_a_mask_that_is_not_binary_is_cut_with_a_warning(x, mask):
    gray = 200 * mask
    gray[..., 0, 0] = 2
    gray[..., 0, 1] = 101
    with pytest.warns(UserWarning, match="not binary: values above 100"):
        got = as_mask(gray, x)
    assert got.sum() == mask.sum() + 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_mask(mask * 0.3, x)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.ones((5, 6)), r"shape \(6, 5\).*got \(5, 6\)"),
        (np.ones((2, 1, 6, 5)), r"shape \(6, 5\).*got \(2, 1, 6, 5\)"),
        (np.ones(5), r"got \(5,\)"),
        (np.zeros((6, 5)), "at least one pixel above 0"),
        (-np.ones((6, 5)), ">= 0"),
        (np.full((6, 5), np.nan), ">= 0"),
        (np.arange(90).reshape(3, 6, 5), "equal channels"),
    ],
)
def test_bad_masks_are_refused(x, mask, message):
    with pytest.raises(ValueError, match=message):
        as_mask(mask, x)


@pytest.mark.parametrize("own", [False, True])
def test_the_strongest_pixels_under_the_mask(x, mask, own):
    n = 3 if own else 1
    delta = 0.1 * torch.randn(n, 3, 6, 5, generator=torch.Generator().manual_seed(2))
    x = 0.3 + 0.4 * x
    sticker = Sticker(delta, mask)
    got = strongest(sticker, x, 1 / 3)
    assert got.shape == (n, 1, 6, 5)
    for row in range(n):
        size = np.where(mask[0, 0], (delta[row].abs().sum(0)), -1).ravel()
        expected = set(np.argsort(size)[-3:])
        assert set(np.flatnonzero(got[row])) == expected
    assert torch.equal(strongest(sticker, x, 1.0), mask.expand(n, 1, 6, 5))
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        strongest(sticker, x, 0)


def test_the_strongest_pixels_of_a_shared_sticker_under_masks_of_their_own(x):
    delta = 0.1 * torch.randn(1, 3, 6, 5, generator=torch.Generator().manual_seed(2))
    masks = torch.zeros(3, 1, 6, 5)
    for row, mask in enumerate(masks):
        mask[:, row : row + 3] = 1
    photographs = 0.3 + 0.4 * x[:1].expand(3, -1, -1, -1)
    got = strongest(Sticker(delta, masks), photographs, 0.2)
    assert got.shape == (3, 1, 6, 5)
    assert got.sum((1, 2, 3)).tolist() == [3, 3, 3]
    assert ((got == 0) | (masks == 1)).all()
    seen = delta[0].abs().sum(0) * masks.mean(0)[0]
    for row in range(3):
        size = torch.where(masks[row, 0] > 0, seen, -1).flatten()
        assert set(np.flatnonzero(got[row])) == set(size.argsort()[-3:].tolist())
