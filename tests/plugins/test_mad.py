"""Most Apparent Distortion against the oracle of an independent implementation."""

from __future__ import annotations

from pathlib import Path

import foolbox
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from foolart.plugins.mad import mad

SAMPLES = Path(foolbox.__file__).parent / "data"
NAMES = {"A": "imagenet_00_243.jpg", "B": "imagenet_01_559.jpg", "C": "imagenet_07_609.jpg"}


def photograph(letter):
    return np.asarray(Image.open(SAMPLES / NAMES[letter]).convert("RGB"))


def uint8(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def noisy(images, sigma, seed=0):
    return uint8(images + np.random.default_rng(seed).normal(0, sigma, images.shape))


def synthetic():
    i, j = np.mgrid[:128, :160]
    waves = 60 * np.sin(2 * np.pi * i / 64) * np.cos(2 * np.pi * j / 80)
    reference = uint8(127.5 + waves + 20 * ((3 * i + 5 * j) % 17) / 17)
    assert reference.sum(dtype=int) == 2_803_971
    sine = uint8(reference + 24 * np.sin(2 * np.pi * (i + j) / 20))
    return reference, sine, reference // 32 * 32 + 16


def check(result, detection, appearance, score):
    # Four significant digits, as the table of the oracle is meant; 0 stands for exactly 0.
    assert result.detection == pytest.approx(detection, rel=5e-5, abs=0)
    assert result.appearance == pytest.approx(appearance, rel=5e-5)
    assert result.score == pytest.approx(score, rel=5e-5, abs=0)


@pytest.mark.parametrize(
    ("letter", "sigma", "version", "detection", "appearance", "score"),
    [
        ("A", 1, "2011", 0.0, 0.108379, 0.0),
        ("A", 5, "2011", 24.654010, 0.438664, 4.642440),
        ("A", 5, "2010-04", 24.654010 / 200, 0.438664, 0.172034),
        ("A", 15, "2011", 2583.957541, 1.145271, 33.188819),
        ("B", 5, "2011", 383.425409, 0.999842, 19.289094),
        ("B", 5, "2010-04", 383.425409 / 200, 0.999842, 1.539510),
        ("C", 5, "2011", 21.074360, 0.533807, 4.677836),
    ],
)
def test_noise_scores_as_the_oracle(letter, sigma, version, detection, appearance, score):
    reference = photograph(letter)
    result = mad(reference, noisy(reference, sigma), version=version)
    check(result, detection, appearance, score)


def test_blur_scores_as_the_oracle():
    reference = photograph("A")
    blurred = uint8(gaussian_filter(reference.astype(float), (1.5, 1.5, 0), mode="reflect"))
    check(mad(reference, blurred), 6613.497406, 1.551970, 46.303267)


def test_synthetic_images_score_as_the_oracle():
    reference, sine, posterized = synthetic()
    check(mad(reference, sine), 58177.128094, 1.981482, 65.797549)
    check(mad(reference, posterized), 3227.569910, 3.136633, 61.456473)
    assert mad(reference, sine, version="2010-04").score == pytest.approx(24.791695, rel=5e-5)
    assert mad(reference, posterized, version="2010-04").score == pytest.approx(8.365063, rel=5e-5)


def test_grayscale_images_score_as_three_equal_channels():
    reference, sine, _ = synthetic()
    colour = mad(np.stack([reference] * 3, -1), np.stack([sine] * 3, -1))
    assert mad(reference, sine) == colour
    assert mad(reference[..., None], sine[..., None]) == colour
    batch = mad(reference[None, ..., None], sine[None, ..., None])
    assert batch.score.shape == (1,)
    assert batch.score[0] == colour.score


def test_a_batch_scores_as_its_images():
    rng = np.random.default_rng(1)
    crops = np.stack([photograph(letter)[:150, :131] for letter in "ABC"] * 6)
    distorted = noisy(crops, rng.uniform(1, 20, (len(crops), 1, 1, 1)))
    batch = mad(crops, distorted)
    for i in (0, 1, 13, 17):
        single = mad(crops[i], distorted[i])
        for stage in ("score", "detection", "appearance"):
            assert getattr(batch, stage)[i] == pytest.approx(getattr(single, stage), rel=1e-9)


def test_identical_and_invisible():
    image = photograph("B")[:100, :120]
    assert mad(image, image) == mad(image, image.copy())
    assert mad(image, image).score == mad(image, image).appearance == 0


def test_flat_images_are_finite():
    for level in (0, 1, 128, 255):
        flat = np.full((64, 80, 3), level, np.uint8)
        assert mad(flat, flat).score == 0
        noise = mad(flat, noisy(flat, 10))
        back = mad(noisy(flat, 10), flat)
        assert np.isfinite([noise.score, noise.appearance, back.score, back.appearance]).all()
        assert noise.appearance > 0
    gray = np.full((64, 80, 3), 128, np.uint8)
    assert mad(gray, noisy(gray, 10)).score > 0


def test_inputs_are_left_alone():
    reference, sine, _ = synthetic()
    before = reference.copy(), sine.copy()
    mad(reference, sine)
    np.testing.assert_array_equal(reference, before[0])
    np.testing.assert_array_equal(sine, before[1])


@pytest.mark.parametrize(
    ("reference", "distorted", "message"),
    [
        (np.zeros((64, 64, 3)), np.zeros((64, 64, 3)), "reference images of dtype uint8"),
        (np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 3), int), "distorted images of dtype"),
        (np.zeros((64, 64, 4), np.uint8),) * 2 + (r"shape \(H, W, 3\)",),
        (np.zeros((3, 64, 64), np.uint8),) * 2 + ("channels come last",),
        (np.zeros((33, 64, 3), np.uint8),) * 2 + ("at least 34x34",),
        (np.zeros((0, 64, 64, 3), np.uint8),) * 2 + ("at least one reference image",),
        (np.zeros(64, np.uint8),) * 2 + (r"got \(64,\)",),
        (np.zeros((64, 64, 3), np.uint8), np.zeros((64, 65, 3), np.uint8), "same shape"),
    ],
)
def test_bad_images_are_refused(reference, distorted, message):
    with pytest.raises(ValueError, match=message):
        mad(reference, distorted)


def test_an_unknown_version_is_refused():
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match=r"version.*2010-04.*got '2009'"):
        mad(image, image, version="2009")


def test_the_smallest_image_is_scored():
    i, j = np.mgrid[:34, :34]
    image = uint8(128 + i + j)
    assert mad(image, noisy(image, 20)).score > 0
