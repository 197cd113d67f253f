"""What we use of the toolkits beyond their documentation: one test each, to see it change."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import eagerpy as ep
import foolbox
import numpy as np
import pytest
from foolbox.attacks import base

X = np.array([[0.2, 0.4], [0.6, 0.8]], np.float32)


def art_classifier(**more):
    torch = pytest.importorskip("torch")
    classification = pytest.importorskip("art.estimators.classification")
    net = torch.nn.Linear(2, 3)
    return net, classification.PyTorchClassifier(
        net, torch.nn.CrossEntropyLoss(), (2,), 3, torch.optim.SGD(net.parameters(), 0.1), **more
    )


def test_art_model_wrapper_returns_a_list_that_ends_in_the_logits():
    net, classifier = art_classifier()
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(X)
    outputs = classifier._model(x)
    assert isinstance(outputs, list)
    assert torch.equal(outputs[-1], net(x))
    assert any(module is net for module in classifier._model.modules())


def test_art_apply_preprocessing_of_training():
    _, classifier = art_classifier(preprocessing=(0.5, 2.0))
    x, y = classifier._apply_preprocessing(X, np.eye(3, dtype=np.float32)[:2], fit=True)
    np.testing.assert_allclose(x, (X - 0.5) / 2)
    np.testing.assert_array_equal(y, np.eye(3)[:2])


def test_art_keeps_the_order_of_its_defences():
    pytest.importorskip("torch")
    preprocessor = pytest.importorskip("art.defences.preprocessor")
    defence = preprocessor.FeatureSqueezing(clip_values=(0, 1), bit_depth=3)
    _, classifier = art_classifier(preprocessing=(0.5, 2.0), preprocessing_defences=[defence])
    assert classifier.preprocessing_operations[0] is defence
    assert len(classifier.preprocessing_operations) == 2


def test_art_attacks_are_checked_by_check_params_and_requirements():
    attack = pytest.importorskip("art.attacks.attack").EvasionAttack
    assert callable(attack._check_params)
    assert isinstance(attack._estimator_requirements, tuple | None)
    assert isinstance(attack.attack_params, list)


def test_foolbox_models_hold_their_network_in_a_closure():
    torch = pytest.importorskip("torch")
    net = torch.nn.Linear(2, 3).eval()
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    assert inspect.getclosurevars(model._model).nonlocals["model"] is net


def test_foolbox_gives_labels_a_criterion():
    labels = ep.astensor(np.array([0, 1]))
    criterion = base.get_criterion(labels)
    assert isinstance(criterion, foolbox.Misclassification)
    assert base.get_criterion(criterion) is criterion


def test_foolbox_knows_the_axis_of_the_channels():
    for layout, axis in (("channels_first", 1), ("channels_last", 3)):
        assert base.get_channel_axis(SimpleNamespace(data_format=layout), 4) == axis
    assert base.get_channel_axis(SimpleNamespace(), 4) is None


def test_foolbox_refuses_other_arguments_of_run():
    base.raise_if_kwargs({})
    with pytest.raises(TypeError, match="nonsense"):
        base.raise_if_kwargs({"nonsense": 1})


def test_foolbox_wrappers_own_their_call():
    assert {"__call__", "distance", "repeat"} <= set(dir(base.AttackWithDistance))
    parameters = inspect.signature(base.MinimizationAttack.run).parameters
    assert list(parameters) == ["self", "model", "inputs", "criterion", "early_stop", "kwargs"]
    parameters = inspect.signature(base.FixedEpsilonAttack.run).parameters
    assert list(parameters) == ["self", "model", "inputs", "criterion", "epsilon", "kwargs"]


def test_foolbox_pgd_normalizes_and_projects_by_hooks():
    attack = foolbox.attacks.L2ProjectedGradientDescentAttack()
    x, far = ep.astensor(X), ep.astensor(X + 3)
    np.testing.assert_allclose(
        np.linalg.norm(attack.normalize(far, x=x, bounds=(0, 1)).numpy(), axis=1), 1, rtol=1e-5
    )
    moved = attack.project(far, x, 0.5) - x
    np.testing.assert_allclose(np.linalg.norm(moved.numpy(), axis=1), 0.5, rtol=1e-5)


def test_foolbox_fmn_projects_by_a_hook():
    fmn = getattr(foolbox.attacks, "L2FMNAttack", None)
    if fmn is None:
        pytest.skip("Foolbox before 3.3.2 has no FMN")
    assert list(inspect.signature(fmn.project).parameters) == ["self", "x", "x0", "epsilon"]
