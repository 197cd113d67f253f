import pickle

import numpy as np
import pytest

pytest.importorskip("art")
torch = pytest.importorskip("torch")

from art.attacks.evasion import ProjectedGradientDescent  # noqa: E402

from foolart.adapters.art.grid_detector import GridDetector  # noqa: E402
from foolart.adapters.art.preprocessors import (  # noqa: E402
    BilateralFilter,
    BitDepthReduction,
    GaussianNoise,
    MedianSmoothing,
    PixelDeflection,
)
from foolart.plugins import filters  # noqa: E402
from tests.adapters.art.defences import Squared  # noqa: E402

ALL = [BitDepthReduction, MedianSmoothing, BilateralFilter, GaussianNoise, PixelDeflection]


@pytest.fixture
def images():
    return np.random.default_rng(0).random((3, 3, 10, 11), dtype=np.float32)


@pytest.mark.parametrize("preprocessor", ALL)
def test_images_come_back_in_their_range_and_layout_and_labels_as_they_were(preprocessor, images):
    labels = np.eye(3)
    expected, same = preprocessor()(images, labels)
    assert expected.dtype == np.float32
    assert np.array_equal(same, labels)
    for lower, upper in ((-1.0, 1.0), (0, 255)):
        face = preprocessor(clip_values=(lower, np.full((3, 1, 1), upper)), channels_first=False)
        x = images.transpose(0, 2, 3, 1) * (upper - lower) + lower
        found, _ = face(x.astype(np.float64))
        found = (found.transpose(0, 3, 1, 2) - lower) / (upper - lower)
        # Rounding may fall otherwise on a few values in the middle between levels.
        assert (np.abs(found - expected) > 1e-5).mean() < 0.01


@pytest.mark.parametrize("preprocessor", ALL)
def test_attacks_of_art_see_a_gradient(preprocessor, classify, batch):
    x, y = batch
    classifier = classify(preprocessor(gradient="straight-through"))
    for gradient in (
        classifier.loss_gradient(x, np.eye(10)[y]),
        classifier.class_gradient(x, label=y)[:, 0],
    ):
        assert gradient.shape == x.shape
        assert np.isfinite(gradient).all()
        assert (np.abs(gradient).max((1, 2, 3)) > 0).all()


def test_pgd_gets_through_a_straight_through_gradient_but_not_a_true_one(classify, batch):
    x, y = batch
    success = {}
    for kind in ("true", "straight-through"):
        classifier = classify(BitDepthReduction(2, gradient=kind))
        attack = ProjectedGradientDescent(
            classifier, eps=0.4, eps_step=0.1, max_iter=10, verbose=False
        )
        success[kind] = classifier.predict(attack.generate(x, y)).argmax(1) != y
    assert success["straight-through"].mean() > success["true"].mean() + 0.4


@pytest.mark.parametrize("preprocessor", ALL)
def test_they_are_chained_with_others_and_pickled(preprocessor, classify, batch):
    x, _ = batch
    first, second = preprocessor(), Squared()
    chained = classify(first, second).predict(x)
    again = pickle.loads(pickle.dumps(preprocessor()))
    step, _ = again(x)
    np.testing.assert_allclose(chained, classify(second).predict(step), atol=1e-5)


def test_the_plugin_does_the_work(images):
    face = MedianSmoothing(np.int64(2), gradient="true")
    x = torch.from_numpy(images)
    assert torch.equal(face.forward(x)[0], filters.MedianSmoothing(2)(x))
    face.set_params(size=3)
    assert torch.equal(face.forward(x)[0], filters.MedianSmoothing(3)(x))
    assert face.defence.gradient == "true"


def test_parameters_are_checked(images):
    face = BitDepthReduction(5)
    for bad, message in (
        ({"bits": 0}, "bits from 1 to 16"),
        ({"depth": 3}, "bits, gradient, clip_values, channels_first, got depth"),
        ({"clip_values": (1, 0)}, "finite, increasing"),
    ):
        with pytest.raises(ValueError, match=message):
            face.set_params(**bad)
    assert face.bits == 5
    assert face.clip_values == (0.0, 1.0)
    assert face.defence.bits == 5
    with pytest.raises(TypeError, match="unexpected keyword argument 'bit'"):
        BitDepthReduction(bit=5)
    with pytest.raises(ValueError, match="4 axes"):
        face(images[0])


@pytest.mark.parametrize("clip", [None, (0,), (0, 0), (0, np.array([1, 2])), (0, np.inf), "ab"])
def test_bad_clip_values_are_refused(clip):
    with pytest.raises(ValueError, match="expected clip_values"):
        MedianSmoothing(clip_values=clip)


# --- the grid


def test_the_detector_finds_what_is_off_the_grid():
    digital = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4))
    for lower, upper in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)):
        x = (digital / 255 * (upper - lower) + lower).astype(np.float32)
        x[3, 1, 2, 2] = lower + (upper - lower) * 0.4 / 255
        report, found = GridDetector(clip_values=(lower, upper)).detect(x, batch_size=2)
        assert found.tolist() == [False, False, False, True, False]
        assert report == {}
    assert GridDetector().detect(np.zeros((0, 3, 4, 4), dtype=np.float32))[1].shape == (0,)


def test_the_detector_knows_other_grids_and_checks_its_parameters():
    x = np.full((1, 1, 2, 2), 1 / 7, dtype=np.float32)
    detector = GridDetector(levels=8)
    assert not detector.detect(x)[1].any()
    detector.set_params(levels=16)
    assert detector.detect(x)[1].all()
    detector.fit(x, np.zeros(1))
    with pytest.raises(ValueError, match="levels"):
        GridDetector(levels=1)
    with pytest.raises(ValueError, match="tolerance from 0"):
        GridDetector(tolerance=0.5)
