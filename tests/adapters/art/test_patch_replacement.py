import pickle

import numpy as np
import pytest

pytest.importorskip("art")
pytest.importorskip("faiss")
torch = pytest.importorskip("torch")

from art.estimators.classification import PyTorchClassifier  # noqa: E402

from foolart.adapters.art.patch_replacement import (  # noqa: E402
    PatchReplacement,
    PatchReplacementTransformer,
    features,
)
from foolart.plugins.codebook import E8Lattice, ProductQuantizer  # noqa: E402
from foolart.plugins.guard import Guard  # noqa: E402
from foolart.plugins.patches import PatchReplacer  # noqa: E402
from tests.adapters.art.defences import Squared  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:learning")


def replacement(**kwargs):
    return PatchReplacement(**{"codewords": 40, "patch": 2, "method": "sample", **kwargs})


@pytest.fixture
def fitted(digits):
    found = replacement()
    found.fit(digits[0][32:132])
    return found


# --- the preprocessor


def test_it_learns_and_replaces(fitted, digits):
    images = digits[0]
    book = ProductQuantizer.fit(
        torch.from_numpy(images[32:132]), 40, patch=2, stride=2, method="sample"
    )
    assert torch.equal(fitted.codebook.codewords, book.codewords)
    x = images[:5]
    found, labels = fitted(x)
    assert labels is None
    np.testing.assert_array_equal(found, PatchReplacer(book)(torch.from_numpy(x)))


def test_bounds_layouts_and_loaders_make_no_difference(fitted, digits):
    images = digits[0]
    x = images[:5]
    other = replacement(clip_values=(-1.0, 1.0), channels_first=False)
    last = (images * 2 - 1).transpose(0, 2, 3, 1)
    other.fit([(last[32:60], None), (last[60:132], None)])
    torch.testing.assert_close(other.codebook.codewords, fitted.codebook.codewords)
    found = other(last[:5])[0].transpose(0, 3, 1, 2) / 2 + 0.5
    np.testing.assert_allclose(found, fitted(x)[0], atol=1e-5)


def test_it_is_seen_by_gradients_chained_and_pickled(fitted, classify, batch):
    x, y = batch
    classifier = classify(fitted, Squared())
    assert np.abs(classifier.loss_gradient(x, np.eye(10)[y])).max() > 0
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again(x)[0], fitted(x)[0])
    np.testing.assert_allclose(classify(again, Squared()).predict(x), classifier.predict(x))
    fitted.set_params(gradient="true")
    assert np.abs(classify(fitted).loss_gradient(x, np.eye(10)[y])).max() == 0


def test_a_classifier_with_it_is_pickled(fitted, classify, batch):
    classifier = classify(fitted)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_allclose(again.predict(batch[0]), classifier.predict(batch[0]), atol=1e-6)


def test_predictions_do_not_depend_on_the_batch_size(fitted, classify, batch):
    classifier = classify(fitted)
    np.testing.assert_allclose(
        classifier.predict(batch[0], batch_size=3), classifier.predict(batch[0]), atol=1e-5
    )


def test_codebooks_are_given_or_read(fitted, tmp_path, digits):
    x = digits[0][:4]
    path = tmp_path / "book.safetensors"
    fitted.codebook.save(path)
    for codebook in (fitted.codebook, path, str(path)):
        given = PatchReplacement(codebook=codebook)
        assert given.is_fitted
        np.testing.assert_array_equal(given(x)[0], fitted(x)[0])
    lattice = PatchReplacement(codebook=E8Lattice(0.1, (1, 2, 4)), strategy="linf", epsilon=0.02)
    assert np.abs(lattice(x)[0] - x).max() == pytest.approx(0.02, abs=1e-6)


def test_another_strategy_keeps_the_codebook_another_size_does_not(fitted, digits):
    x = digits[0][:4]
    fitted.set_params(strategy="linear", epsilon=0.0)
    np.testing.assert_array_equal(fitted(x)[0], x)
    fitted.set_params(codewords=30)
    assert not fitted.is_fitted
    with pytest.raises(ValueError, match=r"fitted PatchReplacement: call fit\(images\) first"):
        fitted(x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stride": 3}, "stride from 1 to 2"),
        ({"strategy": "l3"}, "plain, l2, linf, linear"),
        ({"strategy": "l2"}, "epsilon for the strategies"),
        ({"clip_values": None}, "clip_values"),
        ({"codebook": "nowhere.safetensors"}, "does not exist"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        replacement(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"codewords": 10**6}, "codewords=1000000 and 160 patches"),
        ({"depth": 2}, "divides the 1 channels"),
        ({"patch": 9}, "at least 9 x 9"),
    ],
)
def test_bad_geometries_are_refused_when_they_meet_images(arguments, message, digits):
    with pytest.raises(ValueError, match=message):
        replacement(**arguments).fit(digits[0][:10])


# --- the transformer


@pytest.fixture
def layers():
    return {
        "input": replacement(),
        "0": replacement(depth=4, codewords=60, strategy="linf", epsilon=0.3),
    }


def test_the_new_classifier_is_defended_and_the_old_one_as_before(classify, layers, digits, batch):
    x, y = batch
    classifier = classify(Squared())
    before = classifier.predict(x)
    transformer = PatchReplacementTransformer(classifier, layers)
    assert not transformer.is_fitted
    transformer.fit(digits[0][32:132], batch_size=7)
    assert transformer.is_fitted
    defended = transformer()
    assert isinstance(defended, PyTorchClassifier)
    assert isinstance(defended.model[0], Guard)
    assert "0.defence.quantizer.codewords" in defended.model.state_dict()
    np.testing.assert_array_equal(classifier.predict(x), before)
    # By hand: ART's own preprocessing, the image layer, the first module, the feature layer.
    network = classifier.model
    step = torch.from_numpy(layers["input"](Squared()(x)[0])[0])
    with torch.no_grad():
        step = layers["0"].defence(network[0](step))
        for module in list(network)[1:]:
            step = module(step)
    np.testing.assert_allclose(defended.predict(x), step, atol=1e-5)
    assert np.abs(defended.loss_gradient(x, np.eye(10)[y])).max() > 0


def test_codebooks_of_layers_are_learnt_on_the_undefended_network(classify, layers, digits):
    x = digits[0][32:132]
    classifier = classify(Squared())
    PatchReplacementTransformer(classifier, layers).fit(x, batch_size=9)
    with torch.no_grad():
        maps = classifier.model[0](torch.from_numpy(x) ** 2)
    expected = ProductQuantizer.fit(maps, 60, patch=2, depth=4, stride=2, method="sample")
    torch.testing.assert_close(layers["0"].codebook.codewords, expected.codewords)
    found = torch.cat(list(features(classifier, "0", x, 33)))
    torch.testing.assert_close(found, maps)
    assert len(classifier.model[0]._forward_hooks) == 0


def test_a_trained_classifier_keeps_its_training(trained, layers, digits):
    import copy

    network = copy.deepcopy(trained).requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [{"params": network[0].parameters(), "lr": 0.5}, {"params": network[5].parameters()}],
        lr=0.25,
    )
    classifier = PyTorchClassifier(
        network,
        loss=torch.nn.CrossEntropyLoss(),
        optimizer=optimizer,
        input_shape=(1, 8, 8),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        preprocessing=(0.5, 0.25),
        device_type="cpu",
    )
    x, y = digits[0][:64], digits[1][:64]
    classifier.fit(x, y, nb_epochs=1, verbose=False)
    weights = network[0].weight.clone()
    defended = PatchReplacementTransformer(classifier, layers)(x)
    assert defended.optimizer.param_groups[0]["lr"] == 0.5
    state = defended.optimizer.state[defended.model[0].layer.weight]
    assert torch.equal(state["exp_avg"], optimizer.state[network[0].weight]["exp_avg"])
    defended.fit(x, y, nb_epochs=1, verbose=False)
    assert torch.equal(network[0].weight, weights)
    assert not torch.equal(defended.model[0].layer.weight, weights)
    assert len(defended.preprocessing_operations) == 2


def test_the_new_classifier_is_pickled(classify, layers, digits, batch):
    defended = PatchReplacementTransformer(classify(), layers)(digits[0][32:132])
    again = pickle.loads(pickle.dumps(defended))
    np.testing.assert_allclose(again.predict(batch[0]), defended.predict(batch[0]), atol=1e-5)


def test_the_transformer_refuses(classify, layers, digits):
    with pytest.raises(ValueError, match=r"a codebook for 'input', '0': call fit\(images\) first"):
        PatchReplacementTransformer(classify(), layers)()
    with pytest.raises(ValueError, match=r"got '7': the nearest are"):
        PatchReplacementTransformer(classify(), {"7": replacement()})
    with pytest.raises(ValueError, match="PatchReplacement for '0', got dict"):
        PatchReplacementTransformer(classify(), {"0": {}})
    with pytest.raises(ValueError, match="PyTorchClassifier, got object"):
        PatchReplacementTransformer(object(), layers)
