"""What all native ART attacks share."""

from __future__ import annotations

import inspect
import pickle

import foolbox
import numpy as np
import pytest
import torch
from art.config import set_data_path
from art.estimators.classification import SklearnClassifier
from art.estimators.classification.blackbox import BlackBoxClassifier
from art.exceptions import EstimatorError
from sklearn.tree import DecisionTreeClassifier

import foolart.adapters.art
from foolart.adapters import ArtModel
from tests.adapters.art import defences

# name: parameters that make it quick, a wrong one, and the message
FACES = {
    "SmoothBoundaryProjection": ({"max_iter": 15}, {"levels": 1}, "levels"),
    "SmoothProjectedGradientDescent": (
        {"max_iter": 15, "eps": 4.0, "rel_stepsize": 0.1},
        {"smoothed": "image"},
        "smoothed",
    ),
    "SmoothCarliniWagner": (
        {"max_iter": 15, "binary_search_steps": 2},
        {"kernel": "box"},
        "kernel",
    ),
    "BoundaryProjection": ({"max_iter": 15}, {"gamma_min": 1.5}, "gamma_min between 0 and 1"),
    "IntegerMinimumNorm": ({"max_iter": 10}, {"candidates": 0}, "candidates from 1 to steps"),
    "LinfIntegerMinimumNorm": ({"max_iter": 10}, {"forwards": -1}, "forwards >= 0"),
    "QuantizedDDN": ({"max_iter": 15}, {"quantization": "none"}, "'rounding' or 'lagrangian'"),
}


@pytest.fixture(params=FACES)
def face(request):
    made = getattr(foolart.adapters.art, request.param)
    params = FACES[request.param][0]
    return lambda classifier, **more: made(classifier, **{"verbose": False, **params, **more})


@pytest.mark.parametrize("name", FACES)
def test_parameters_and_defaults_are_those_of_the_foolbox_attack(name):
    made = getattr(foolart.adapters.art, name)
    theirs = inspect.signature(made.foolbox_class).parameters
    own = inspect.signature(made).parameters
    names = {"steps": "max_iter"}
    assert {names.get(k, k): p.default for k, p in theirs.items()}.items() <= {
        k: p.default for k, p in own.items()
    }.items()
    shared = {"classifier", "eps", "targeted", "batch_size", "summary_writer", "verbose"}
    assert set(own) <= shared | {names.get(k, k) for k in theirs}
    assert set(made.attack_params) == set(own) - {"classifier", "summary_writer"}


@pytest.mark.parametrize(
    "pipeline",
    [(), (defences.StraightThrough(),), (defences.Squared(), defences.Halved())],
    ids=["bare", "native", "native and numpy"],
)
def test_gives_the_images_of_the_foolbox_attack(face, classify, batch, pipeline):
    attack = face(classify(*pipeline))
    x, y = map(torch.from_numpy, batch)
    if pipeline:
        model = ArtModel(classify(*pipeline))
    else:
        model = foolbox.PyTorchModel(classify().model, bounds=(0, 1), device="cpu")
    _, expected, success = attack.foolbox_attack()(model, x, y, epsilons=attack.eps)
    expected = torch.where(success[:, None, None, None], expected, x)
    np.testing.assert_array_equal(attack.generate(*batch), expected.numpy())
    assert success.float().mean() > 0.8


def test_generate(face, classify, batch):
    images, labels = batch[0].copy(), batch[1]
    result = face(classify()).generate(images, labels)
    assert result.dtype == np.float32
    assert result.shape == images.shape
    assert result.min() >= 0
    assert result.max() <= 1
    assert (classify().predict(result).argmax(axis=1) != labels).mean() > 0.8
    np.testing.assert_array_equal(images, batch[0])


def test_targeted(face, classify, batch):
    target = (batch[1] + 1) % 10
    result = face(classify(), targeted=True, max_iter=40).generate(batch[0], target)
    assert (classify().predict(result).argmax(axis=1) == target).mean() > 0.6
    with pytest.raises(ValueError, match="target classes"):
        face(classify(), targeted=True).generate(batch[0])


def test_mask(face, classify, batch):
    mask = np.zeros((1, 8, 8), dtype=bool)
    mask[:, 1:7, 1:7] = True
    result = face(classify(), max_iter=40).generate(*batch, mask=mask)
    np.testing.assert_array_equal(result[:, ~mask], batch[0][:, ~mask])
    assert (classify().predict(result).argmax(axis=1) != batch[1]).mean() > 0.6


def test_numpy_scalars_and_set_params(face, classify, batch):
    attack = face(classify())
    expected = attack.generate(*batch)
    numbers = {}
    for name in attack.attack_params:
        value = getattr(attack, name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            numbers[name] = np.int64(value) if isinstance(value, int) else np.float64(value)
    assert "max_iter" in numbers
    attack.set_params(**numbers)
    np.testing.assert_array_equal(attack.generate(*batch), expected)
    with pytest.raises(ValueError, match="steps"):
        attack.set_params(steps=3)


def test_pickling(face, classify, batch, tmp_path):
    set_data_path(tmp_path)
    attack = face(classify())
    again = pickle.loads(pickle.dumps(attack))
    np.testing.assert_array_equal(again.generate(*batch), attack.generate(*batch))


@pytest.mark.parametrize("name", FACES)
def test_check_params(name, classify):
    made = getattr(foolart.adapters.art, name)
    _, wrong, message = FACES[name]
    with pytest.raises(ValueError, match=message):
        made(classify(), **wrong)
    for value in (0, -1, 2.5, "3", True, None):
        with pytest.raises(ValueError, match="max_iter"):
            made(classify(), max_iter=value)
    with pytest.raises(ValueError, match="batch_size"):
        made(classify(), batch_size=0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'steps'"):
        made(classify(), steps=3)
    attack = made(classify())
    with pytest.raises(ValueError, match=message):
        attack.set_params(**wrong)


def test_classifier_type_check_fail(face, trained, digits):
    tree = DecisionTreeClassifier().fit(digits[0][:20].reshape(20, -1), digits[1][:20])
    for estimator in (
        SklearnClassifier(tree, clip_values=(0, 1)),
        BlackBoxClassifier(lambda x: x, (1, 8, 8), 10),
        trained,
    ):
        with pytest.raises(EstimatorError, match="LossGradientsMixin"):
            face(estimator)
