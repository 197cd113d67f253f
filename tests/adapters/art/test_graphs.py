from __future__ import annotations

import eagerpy as ep
import foolbox
import numpy as np
import pytest
import torch
from art.defences.postprocessor import ReverseSigmoid
from art.estimators.classification import EnsembleClassifier, SklearnClassifier
from sklearn.tree import DecisionTreeClassifier

from foolart.adapters import ArtModel
from foolart.adapters.art import FoolboxAttack
from tests.adapters.art import defences
from tests.adapters.art.defences import gradient


@pytest.fixture
def ensemble(classify):
    """Two classifiers with different preprocessing, which ART joins in NumPy."""
    members = [classify(preprocessing=(0.1, 0.8)), classify(defences.Squared())]
    return EnsembleClassifier(members, clip_values=(0.0, 1.0), channels_first=True)


def mean_of_members(ensemble):
    first, second = map(ArtModel, ensemble.classifiers)
    return lambda x: (first(x) + second(x)) / 2


def test_numpy_outputs_and_gradients(ensemble, batch):
    images, labels = batch
    model, reference = ArtModel(ensemble), mean_of_members(ensemble)
    x = torch.from_numpy(images)
    np.testing.assert_allclose(model(x), reference(x), atol=1e-5)
    expected = gradient(reference, images, labels + 1)
    np.testing.assert_allclose(gradient(model, images, labels + 1), expected, atol=1e-5)
    assert np.abs(expected).max() > 1e-2


def test_numpy_loss_gradients_where_class_gradients_are_missing(ensemble, batch, monkeypatch):
    def missing(*_):
        raise NotImplementedError

    monkeypatch.setattr(type(ensemble), "class_gradient", missing)
    x, label = torch.from_numpy(batch[0]).requires_grad_(), torch.from_numpy(batch[1])
    rows = torch.arange(len(x))

    def slope(model):
        z = model(x)
        return torch.autograd.grad((z[rows, label] - z[rows, label + 1]).sum(), x)[0].flatten(1)

    # ART averages the loss over the batch and leaves the weights of the members out: a factor.
    cosine = torch.nn.functional.cosine_similarity(
        slope(ArtModel(ensemble)), slope(mean_of_members(ensemble))
    )
    np.testing.assert_allclose(cosine, 1, atol=1e-5)


def test_numpy_leaves_postprocessing_out(ensemble, batch):
    x = torch.from_numpy(batch[0])
    plain = ArtModel(ensemble)(x)
    defence = ReverseSigmoid()
    ensemble.postprocessing_defences = [defence]
    assert torch.equal(ArtModel(ensemble)(x), plain)
    assert ensemble.postprocessing_defences == [defence]


def test_numpy_classifiers_without_gradients(digits):
    images, labels = digits[0][:500].reshape(500, 64), digits[1][:500]
    fitted = DecisionTreeClassifier(max_depth=5, random_state=0).fit(images, labels)
    model = ArtModel(SklearnClassifier(fitted, clip_values=(0.0, 1.0)))
    x = torch.from_numpy(images[:4])
    y = model(x).argmax(dim=1)
    attack = foolbox.attacks.LinearSearchBlendedUniformNoiseAttack(steps=5)
    assert attack(model, x, y, epsilons=None)[2].all()
    assert not hasattr(model, "data_format")
    with pytest.raises(ValueError, match=r"class_gradient or loss_gradient, got .*TreeClassifier"):
        foolbox.attacks.LinfPGD(steps=1)(model, x, y, epsilons=0.1)


class TestJax:
    @pytest.fixture
    def weights(self):
        return np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)

    def classifier(self, weights, *defences_, preprocessing=(0.2, 0.5)):
        jnp = pytest.importorskip("jax.numpy")
        module = pytest.importorskip("art.experimental.estimators.classification.jax")
        return module.JaxClassifier(
            [jnp.asarray(weights)],
            predict_func=lambda model, x: x.reshape((len(x), -1)) @ model[0],
            loss_func=None,
            update_func=None,
            input_shape=(1, 8, 8),
            nb_classes=10,
            channels_first=True,
            clip_values=(0.0, 1.0),
            preprocessing_defences=list(defences_),
            preprocessing=preprocessing,
        )

    def gradient(self, model, images):
        x = ep.astensor(model.from_numpy(images).raw)
        return ep.value_and_grad(lambda x: model(x)[:, 3].sum(), x)[1].numpy()

    def test_outputs_and_gradients(self, weights, batch):
        model = ArtModel(self.classifier(weights, defences.Halved()))
        outputs = np.asarray(model(model.from_numpy(batch[0]).raw))
        z = (batch[0] * 0.5 - 0.2) / 0.5
        np.testing.assert_allclose(outputs, z.reshape(8, -1) @ weights, atol=1e-5)
        expected = np.broadcast_to(weights[:, 3].reshape(1, 8, 8) * 0.5 / 0.5, (8, 1, 8, 8))
        np.testing.assert_allclose(self.gradient(model, batch[0]), expected, atol=1e-5)

    def test_any_attack_runs_as_on_the_foolbox_model(self, weights, batch):
        jnp = pytest.importorskip("jax.numpy")
        attack = foolbox.attacks.DDNAttack(steps=5)
        result = FoolboxAttack(self.classifier(weights), attack, verbose=False).generate(batch[0])
        model = foolbox.JAXModel(
            lambda x: ((x - 0.2) / 0.5).reshape((len(x), -1)) @ jnp.asarray(weights), bounds=(0, 1)
        )
        x = jnp.asarray(batch[0])
        _, expected, success = attack(model, x, model(x).argmax(axis=1), epsilons=None)
        assert success.all()
        np.testing.assert_allclose(result, expected, atol=1e-5)

    def test_a_zero_gradient_warns(self, weights, batch):
        model = ArtModel(self.classifier(weights, defences.Blind()))
        with pytest.warns(UserWarning, match="preprocessor Blind"):
            self.gradient(model, batch[0])


class TestTensorFlow:
    @pytest.fixture
    def weights(self):
        return np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)

    def classifier(self, weights, *defences_):
        tf = pytest.importorskip("tensorflow")
        from art.estimators.classification import TensorFlowV2Classifier

        return TensorFlowV2Classifier(
            lambda x, training: tf.reshape(x, (len(x), -1)) @ tf.constant(weights),
            nb_classes=10,
            input_shape=(1, 8, 8),
            channels_first=True,
            clip_values=(0.0, 1.0),
            preprocessing_defences=list(defences_),
            preprocessing=(0.2, 0.5),
        )

    def gradient(self, model, images):
        x = model.from_numpy(images)
        return ep.value_and_grad(lambda x: model(x)[:, 3].sum(), x)[1].numpy()

    def native(self, scale, estimate=False):
        tf = pytest.importorskip("tensorflow")
        from art.defences.preprocessor.preprocessor import PreprocessorTensorFlowV2

        class Scaled(PreprocessorTensorFlowV2):
            def forward(self, x, y=None):
                return (x if scale is None else x * scale) if scale else tf.round(x), y

        class Estimating(Scaled):
            def estimate_forward(self, x, y=None):
                return x * 3

        return (Estimating if estimate else Scaled)()

    def test_outputs_and_gradients(self, weights, batch):
        model = ArtModel(self.classifier(weights, self.native(0.5), defences.Halved()))
        outputs = model(model.from_numpy(batch[0]).raw).numpy()
        z = (batch[0] * 0.25 - 0.2) / 0.5
        np.testing.assert_allclose(outputs, z.reshape(8, -1) @ weights, atol=1e-5)
        expected = np.broadcast_to(weights[:, 3].reshape(1, 8, 8) * 0.25 / 0.5, (8, 1, 8, 8))
        np.testing.assert_allclose(self.gradient(model, batch[0]), expected, atol=1e-5)

    def test_estimates_and_zero_gradients(self, weights, batch):
        model = ArtModel(self.classifier(weights, self.native(0, estimate=True)))
        expected = np.broadcast_to(weights[:, 3].reshape(1, 8, 8) * 3 / 0.5, (8, 1, 8, 8))
        np.testing.assert_allclose(self.gradient(model, batch[0]), expected, atol=1e-5)
        model = ArtModel(self.classifier(weights, self.native(0)))
        with pytest.warns(UserWarning, match="preprocessor Scaled"):
            self.gradient(model, batch[0])
