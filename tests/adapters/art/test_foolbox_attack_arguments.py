"""What FoolboxAttack, and with it every native attack, refuses."""

from __future__ import annotations

import foolbox
import numpy as np
import pytest
from art.estimators.classification.classifier import ClassifierMixin
from art.estimators.estimator import BaseEstimator
from art.exceptions import EstimatorError

from foolart.adapters.art import FoolboxAttack

DDN = foolbox.attacks.DDNAttack(steps=3)


def face(classifier, attack=DDN, **params):
    return FoolboxAttack(classifier, attack, **{"verbose": False, **params})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"attack": "DDN"}, "expected attack to be an instance of foolbox.attacks.Attack"),
        ({"attack": foolbox.attacks.DDNAttack}, "expected attack to be an instance"),
        ({"eps": -0.1}, "expected eps to be None or a finite number >= 0, got -0.1"),
        ({"eps": np.nan}, "expected eps"),
        ({"eps": "0.1"}, "expected eps"),
        ({"attack": foolbox.attacks.LinfPGD()}, "expected eps for LinfProjected.*got None"),
        ({"batch_size": 0}, "expected batch_size to be a positive integer, got 0"),
        ({"batch_size": 2.0}, "expected batch_size"),
        ({"targeted": 1}, "expected targeted to be a bool, got 1"),
        ({"verbose": "yes"}, "expected verbose to be a bool"),
        ({"summary_writer": 0}, "summary_writer"),
    ],
)
def test_check_params(classify, params, message):
    with pytest.raises(ValueError, match=message):
        face(classify(), **params)


def test_classifier_type_check_fail(trained):
    class NoClassifier(BaseEstimator):
        input_shape = (1,)

        def __init__(self):
            super().__init__(model=None, clip_values=None)

        def predict(self, x, **_):
            return x

        def fit(self, x, y, **_):
            pass

    class NoEstimator(ClassifierMixin):
        pass

    for estimator in (NoClassifier(), NoEstimator(), trained):
        with pytest.raises(EstimatorError, match="FoolboxAttack requires an estimator"):
            face(estimator)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": lambda x: x + 0.5}, "within model.bounds"),
        ({"x": lambda x: x * np.nan}, "without NaN"),
        ({"x": lambda x: x[:0]}, "non-empty batch"),
        ({"y": lambda y: y[:3]}, r"as indices \(8,\) or \(8, 1\).*got shape \(3,\)"),
        ({"y": lambda y: np.eye(9)[y % 9]}, r"one-hot \(8, 10\), got shape \(8, 9\)"),
        ({"y": lambda y: y + 10}, "integers from 0 to 9"),
        ({"y": lambda y: y + 0.5}, "integers from 0 to 9"),
        ({"y": lambda y: np.ones((8, 10))}, "one largest entry in every row"),
        ({"mask": np.ones((7, 8))}, r"broadcasts to .*\(8, 1, 8, 8\), got shape \(7, 8\)"),
        ({"mask": np.ones((2, 8, 1, 8, 8))}, "mask that broadcasts"),
        ({"mask": np.ones((8, 8), int)}, "mask of bools or floats, got dtype int64"),
        ({"mask": -np.ones((8, 8))}, "mask without negative values"),
    ],
)
def test_bad_input(classify, batch, change, message):
    arguments = dict(zip("xy", batch, strict=True))
    for name, value in change.items():
        arguments[name] = value(arguments[name]) if callable(value) else value
    with pytest.raises(ValueError, match=message):
        face(classify()).generate(**arguments)


def test_bad_arguments_of_generate(classify, batch):
    with pytest.raises(TypeError, match="unexpected keyword argument 'masks'"):
        face(classify()).generate(*batch, masks=None)
    with pytest.raises(ValueError, match="clip_values, got None"):
        face(classify(clip_values=None)).generate(*batch)
