"""Perceptual scores: against scikit-image, by hand, and how they fit together."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from foolart.evaluation import perception

pytest.importorskip("skimage")


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    i, j = np.mgrid[:48, :40]
    base = 120 + 60 * np.sin(i / 7)[..., None] * np.cos(j / 5)[..., None] * np.array([1, 0.8, -0.5])
    reference = np.stack([base, base[::-1], base[:, ::-1]]).round().astype(np.uint8)
    noise = rng.normal(0, [[[[4]]], [[[0]]], [[[40]]]], reference.shape)
    return reference, np.clip(reference + noise, 0, 255).round().astype(np.uint8)


def test_psnr_is_that_of_scikit_image(pair):
    from skimage.metrics import peak_signal_noise_ratio

    values = perception.psnr(*pair)
    assert values[0] == pytest.approx(peak_signal_noise_ratio(pair[0][0], pair[1][0]), rel=1e-12)
    assert values[1] == np.inf


def test_ssim_orders_distortions(pair):
    values = perception.ssim(*pair)
    assert values[1] == pytest.approx(1)
    assert values[2] < values[0] < 1


def test_ciede2000_of_known_colours():
    # White to black is a difference of lightness of 100, where CIEDE2000 divides by 1.
    white, black = np.full((2, 2, 3), 255, np.uint8), np.zeros((2, 2, 3), np.uint8)
    assert perception.ciede2000(white, black) == pytest.approx(100, rel=1e-4)
    half = white.copy()
    half[0] = 0
    assert perception.ciede2000(white, half) == pytest.approx(50, rel=1e-4)


def test_wpsnr_forgives_errors_in_texture():
    flat = np.full((32, 32), 100, np.uint8)
    textured = flat.copy()
    textured[:, 16:] = np.random.default_rng(0).integers(0, 200, (32, 16))
    in_flat, in_texture = textured.copy(), textured.copy()
    in_flat[4:28, 2:12] += 5
    in_texture[4:28, 19:29] += 5
    assert perception.psnr(textured, in_flat) == perception.psnr(textured, in_texture)
    assert perception.wpsnr(textured, in_flat) == pytest.approx(perception.psnr(textured, in_flat))
    assert perception.wpsnr(textured, in_texture) > perception.wpsnr(textured, in_flat) + 20
    assert perception.wpsnr(flat, flat + 3) == pytest.approx(perception.psnr(flat, flat + 3))
    assert perception.wpsnr(flat, flat) == np.inf


def test_scores_of_a_batch(pair):
    values = perception.scores(*pair)
    assert set(values) == {
        *("mad", "mad_2010", "mad_detection", "mad_appearance"),
        *("ssim", "psnr", "wpsnr", "ciede2000"),
    }
    assert all(array.shape == (3,) for array in values.values())
    for i in range(3):
        late = perception.mad(pair[0][i], pair[1][i])
        early = perception.mad(pair[0][i], pair[1][i], version="2010-04")
        assert values["mad"][i] == pytest.approx(late.score, rel=1e-12)
        assert values["mad_2010"][i] == pytest.approx(early.score, rel=1e-9)
        assert values["mad_detection"][i] == pytest.approx(late.detection, rel=1e-12)
        assert values["ssim"][i] == pytest.approx(perception.ssim(pair[0][i], pair[1][i]))
    assert values["mad"][2] > values["mad"][1] == 0


def test_a_single_image_makes_arrays_of_one(pair):
    values = perception.scores(pair[0][0], pair[1][0], ["psnr", "ssim"])
    assert list(values) == ["psnr", "ssim"]
    assert values["psnr"].shape == (1,)


def test_grayscale_images_score_as_three_equal_channels(pair):
    reference, distorted = (z[..., :1] for z in pair)
    for name, values in perception.scores(reference, distorted).items():
        colour = perception.scores(reference.repeat(3, -1), distorted.repeat(3, -1))[name]
        np.testing.assert_allclose(values, colour, rtol=1e-6)


def test_small_images_are_scored_as_far_as_possible(pair):
    small = pair[0][:, :28, :28], pair[1][:, :28, :28]
    assert set(perception.scores(*small)) == {"ssim", "psnr", "wpsnr", "ciede2000"}
    with pytest.raises(ValueError, match="at least 34x34"):
        perception.scores(*small, metrics=["mad"])
    with pytest.raises(ValueError, match="at least 11x11"):
        perception.ssim(small[0][:, :10], small[1][:, :10])


def test_unknown_metrics_and_bad_images_are_refused(pair):
    with pytest.raises(ValueError, match=r"unknown metric 'fid'.*'mad'"):
        perception.scores(*pair, metrics=["fid"])
    with pytest.raises(ValueError, match="dtype uint8"):
        perception.scores(pair[0] / 255, pair[1] / 255)
    with pytest.raises(ValueError, match="same shape"):
        perception.psnr(pair[0], pair[1][:2])


def test_lpips_gets_images_in_its_range(pair, monkeypatch):
    torch = pytest.importorskip("torch")
    seen = []

    class Fake(torch.nn.Module):
        def __init__(self, net, verbose):
            super().__init__()
            assert (net, verbose) == ("vgg", False)

        def forward(self, x, y):
            seen.append((x, y))
            return (x - y).abs().mean().reshape(1, 1, 1, 1)

    monkeypatch.setitem(sys.modules, "lpips", types.SimpleNamespace(LPIPS=Fake))
    perception._lpips.cache_clear()
    values = perception.lpips(*pair, net="vgg")
    perception._lpips.cache_clear()
    expected = np.abs(pair[0] / 127.5 - pair[1] / 127.5).mean((1, 2, 3))
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    assert seen[0][0].shape == (1, 3, 48, 40)
    assert min(x.min() for x, _ in seen) >= -1


def test_a_missing_package_is_named(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    perception._lpips.cache_clear()
    with pytest.raises(ImportError, match="pip install lpips"):
        perception.lpips(*pair)
    monkeypatch.setitem(sys.modules, "skimage.color", None)
    with pytest.raises(ImportError, match=r"foolart\[eval\]"):
        perception.ciede2000(*pair)
