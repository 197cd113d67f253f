from __future__ import annotations

import copy
import warnings

import foolbox
import numpy as np
import pytest
import torch
from art.defences.postprocessor import ReverseSigmoid
from art.defences.preprocessor import FeatureSqueezing, SpatialSmoothing

from foolart.adapters import ArtModel
from tests.adapters.art import defences
from tests.adapters.art.defences import gradient

PIPELINES = {
    "bare": lambda: (),
    "native": lambda: (defences.Squared(),),
    "straight-through": lambda: (defences.StraightThrough(),),
    "two native": lambda: (defences.Squared(), defences.StraightThrough()),
    "art's own": lambda: (SpatialSmoothing(window_size=3, channels_first=True),),
}


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize(
    "preprocessing", [(0.0, 1.0), (0.3, 0.5), (np.float32([0.3]), np.float32([0.5]))]
)
def test_outputs_and_gradients_are_those_of_the_classifier(
    classify, batch, pipeline, preprocessing
):
    classifier = classify(*PIPELINES[pipeline](), preprocessing=preprocessing)
    images, labels = batch
    expected = classifier.loss_gradient(images, np.eye(10, dtype=np.float32)[labels + 1])
    model = ArtModel(classifier)
    outputs = model(torch.from_numpy(images))
    np.testing.assert_allclose(outputs, classifier.predict(images), atol=2e-6)
    np.testing.assert_allclose(gradient(model, images, labels + 1), expected, atol=1e-6)
    assert np.abs(expected).max() > 1e-2


def test_a_numpy_preprocessor_may_promote_to_float64(classify, batch):
    """ART's own predict breaks on those with NumPy 2."""
    images, labels = batch
    model, halved = ArtModel(classify(defences.Halved())), images / 2
    outputs = model(torch.from_numpy(images))
    assert torch.equal(outputs, model.classifier.model(torch.from_numpy(halved)))
    expected = gradient(model.classifier.model, halved, labels + 1) / 2
    np.testing.assert_allclose(gradient(model, images, labels + 1), expected, atol=1e-6)


def test_preprocessors_of_all_kinds_can_be_chained(classify, batch):
    classifier = classify(
        defences.Squared(),
        FeatureSqueezing(clip_values=(0.0, 1.0), bit_depth=3),
        defences.Halved(),
        defences.StraightThrough(),
        preprocessing=(0.2, 0.5),
    )
    images, labels = batch
    squeezed = torch.from_numpy(np.rint(images**2 * 7) / 7 * 0.5).float()
    z = ((squeezed * 2).round() / 2 - 0.2) / 0.5
    model = ArtModel(classifier)
    network = classifier.model
    np.testing.assert_allclose(model(torch.from_numpy(images)), network(z), atol=1e-5)
    chain = gradient(network, z.numpy(), labels + 1) / 0.5 * 0.5 * 2 * images
    np.testing.assert_allclose(gradient(model, images, labels + 1), chain, atol=1e-6)


def test_an_estimate_gives_the_gradient_and_forward_the_values(classify, batch):
    images, labels = batch
    model = ArtModel(classify(defences.RoundingWithEstimate()))
    rounded = (images * 2).round() / 2
    x = torch.from_numpy(images)
    assert torch.equal(model(x), model(x.clone().requires_grad_()).detach())
    assert torch.equal(model(x), model.classifier.model(torch.from_numpy(rounded)))
    expected = 3 * gradient(model.classifier.model, rounded, labels + 1)
    np.testing.assert_allclose(gradient(model, images, labels + 1), expected, atol=1e-6)


def test_skips_what_is_not_applied_at_prediction_time(classify, batch):
    defence = defences.Squared()
    defence._apply_predict = False
    x = torch.from_numpy(batch[0])
    assert torch.equal(ArtModel(classify(defence))(x), ArtModel(classify())(x))


def test_leaves_postprocessing_out(classify, batch):
    x = torch.from_numpy(batch[0])
    defended = classify(postprocessing_defences=ReverseSigmoid())
    assert torch.equal(ArtModel(defended)(x), ArtModel(classify())(x))


@pytest.mark.parametrize("defence", [defences.Rounding, defences.Blind])
def test_a_zero_gradient_warns_once_and_names_the_preprocessor(classify, batch, defence):
    images, labels = batch
    model = ArtModel(classify(defences.Squared(), defence()))
    with pytest.warns(UserWarning, match=f"preprocessor {defence.__name__}:"):
        gradient(model, images, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient(model, images, labels)


def test_a_distance_in_the_loss_does_not_hide_a_zero_gradient(classify, batch):
    attack = foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=1, steps=3)
    x, y = map(torch.from_numpy, batch)
    with pytest.warns(UserWarning, match="preprocessor Rounding"):
        attack(ArtModel(classify(defences.Rounding())), x, y, epsilons=None)


@pytest.mark.parametrize("defence", [defences.StraightThrough, defences.RoundingWithEstimate])
def test_a_passing_gradient_warns_not(classify, batch, defence):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradient(ArtModel(classify(defence())), *batch)


def test_says_who_leaves_the_graph(classify, batch):
    model = ArtModel(classify(defences.Detached()))
    assert model(torch.from_numpy(batch[0])).shape == (8, 10)
    with pytest.raises(ValueError, match="no gradient passes Detached"):
        gradient(model, *batch)


def test_network_and_parameters_are_as_before(trained, classify, batch):
    network = copy.deepcopy(trained).train().requires_grad_(True)
    network[1].eval()
    network[0].bias.requires_grad_(False)
    classifier = classify()
    classifier.set_params(model=classifier._make_model_wrapper(network))
    modes = [m.training for m in classifier._model.modules()]
    states = copy.deepcopy(network.state_dict())
    model, x = ArtModel(classifier), torch.from_numpy(batch[0])
    assert torch.equal(model(x), ArtModel(classify())(x))
    gradient(model, *batch)
    foolbox.attacks.LinfPGD(steps=2)(model, x, torch.from_numpy(batch[1]), epsilons=0.1)
    assert [m.training for m in classifier._model.modules()] == modes
    assert [p.requires_grad for p in network.parameters()] == [True, False, *[True] * 4]
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(v, states[k]) for k, v in network.state_dict().items())


def test_runs_the_layers_that_art_runs(classify, batch):
    """ART runs the layers of a Sequential itself, repeated ones too, whatever its forward."""

    class Negated(torch.nn.Sequential):
        def forward(self, x):
            return -super().forward(x)

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.negated = network

        def forward(self, x):
            return self.negated(x)

    once = torch.nn.Linear(64, 64)
    network = Negated(torch.nn.Flatten(), once, torch.nn.Tanh(), once, torch.nn.Linear(64, 10))
    classifier, x = classify(), torch.from_numpy(batch[0])
    for model in (network, Plain()):
        classifier.set_params(model=classifier._make_model_wrapper(model))
        outputs = ArtModel(classifier)(x).detach()
        np.testing.assert_allclose(outputs, classifier.predict(batch[0]), atol=1e-6)


def test_the_private_part_of_art_that_the_bridge_uses(classify, trained, batch):
    """ART's module gives a list that ends with the outputs, for sequential and other networks."""
    x = torch.from_numpy(batch[0])
    for network in (trained, torch.nn.ModuleList([trained])[0], _Plain(trained)):
        wrapper = classify()._make_model_wrapper(network)
        assert isinstance(wrapper, torch.nn.Module)
        assert torch.equal(wrapper(x)[-1], trained(x))
    classifier = classify()
    assert isinstance(classifier._model, type(classifier._make_model_wrapper(trained)))
    assert torch.equal(classifier._model(x)[-1], trained(x))


class _Plain(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)


def test_bounds_and_data_format(classify):
    model = ArtModel(classify(clip_values=(np.full((1, 8, 8), -1.0), np.full((1, 8, 8), 1.0))))
    assert model.bounds == (-1.0, 1.0)
    assert model.data_format == "channels_first"
    assert ArtModel(classify(channels_first=False)).data_format == "channels_last"


@pytest.mark.parametrize(
    ("clip_values", "message"),
    [
        (None, "expected a classifier with clip_values, got None"),
        ((1.0, 0.0), r"lower < upper, got \(1.0, 0.0\)"),
        ((0.0, np.nan), "finite clip_values"),
        ((np.zeros(2), np.array([1.0, 2.0])), "same clip_values for all features"),
    ],
)
def test_refuses_clip_values(classify, clip_values, message):
    classifier = classify()
    classifier._clip_values = clip_values  # ART's own checks refuse some of these, but not all
    with pytest.raises(ValueError, match=message):
        ArtModel(classifier)


def test_refuses_what_is_no_classifier(trained):
    with pytest.raises(TypeError, match=r"ART classifier.*got Sequential"):
        ArtModel(trained)


def test_refuses_inputs_of_another_framework(classify, batch):
    with pytest.raises(ValueError, match=r"expected inputs as PyTorchTensor.*got NumPyTensor"):
        ArtModel(classify())(batch[0])


def test_refuses_a_single_output(classify, batch):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1))
    classifier = classify()
    classifier._model = classifier._make_model_wrapper(network)
    with pytest.raises(ValueError, match=r"C >= 2, got \(8, 1\)"):
        ArtModel(classifier)(torch.from_numpy(batch[0]))


def test_refuses_a_network_that_returns_no_tensor(classify, batch):
    class Pair(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1), x

    classifier = classify()
    classifier._model = classifier._make_model_wrapper(Pair())
    with pytest.raises(ValueError, match=r"returns one tensor of scores \(N, C\), got tuple"):
        ArtModel(classifier)(torch.from_numpy(batch[0]))


def test_observer_sees_inputs_and_gradients(classify, batch):
    seen = []
    model = ArtModel(classify(), observer=lambda x, g: seen.append((x.numpy(), g.numpy())))
    expected = gradient(ArtModel(classify()), *batch)
    gradient(model, *batch)
    model(torch.from_numpy(batch[0]))
    ((x, g),) = seen
    np.testing.assert_array_equal(x, batch[0])
    np.testing.assert_array_equal(g, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_stays_on_the_device(classify, batch, pipeline):
    on_host = ArtModel(classify(*PIPELINES[pipeline](), preprocessing=(0.3, 0.5)))
    x, y = map(torch.from_numpy, batch)
    expected = on_host(x)
    classifier = classify(*PIPELINES[pipeline](), preprocessing=(0.3, 0.5), device_type="gpu")
    classifier.set_params(model=copy.deepcopy(classifier._model).cuda())
    model = ArtModel(classifier)
    outputs = model(x.cuda().requires_grad_())
    assert outputs.is_cuda
    assert model.from_numpy(batch[0]).raw.is_cuda
    np.testing.assert_allclose(outputs.detach().cpu(), expected, atol=1e-4)
    success = foolbox.attacks.LinfPGD(steps=3)(model, x.cuda(), y.cuda(), epsilons=0.3)[2]
    assert success.is_cuda
