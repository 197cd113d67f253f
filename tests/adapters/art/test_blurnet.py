"""BlurNet's ART faces: a blur inside the network, before it, and training towards one."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("art")
torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from art.attacks.evasion import FastGradientMethod  # noqa: E402
from art.estimators.classification import PyTorchClassifier  # noqa: E402
from scipy.ndimage import uniform_filter  # noqa: E402

from foolart.adapters.art import BlurNetTrainer, BlurNetTransformer, InputBlur  # noqa: E402
from foolart.plugins.blurnet import Blur, DepthwiseBlur  # noqa: E402


def small():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(512, 10),
        )


def classifier(network=None, **options):
    network = small() if network is None else network
    arguments = {
        "loss": torch.nn.CrossEntropyLoss(),
        "optimizer": torch.optim.Adam(network.parameters()),
        "input_shape": (1, 8, 8),
        "nb_classes": 10,
        "clip_values": (0.0, 1.0),
        "device_type": "cpu",
    }
    return PyTorchClassifier(network, **{**arguments, **options})


def test_the_blur_follows_the_layer(digits):
    images = digits[0][:5]
    plain = classifier()
    blurred = BlurNetTransformer(plain, size=3)()
    x = torch.from_numpy(images)
    maps = uniform_filter(plain.model[0](x).detach().numpy(), (0, 0, 3, 3), mode="constant")
    expected = plain.model[1:](torch.from_numpy(maps)).detach()
    np.testing.assert_allclose(blurred.predict(images), expected, rtol=1e-4, atol=1e-5)
    assert isinstance(plain.model[0], torch.nn.Conv2d)
    assert not [m for m in plain.model.modules() if isinstance(m, Blur)]
    other = BlurNetTransformer(plain, layer="1", size=3, kernel="gaussian", padding="reflect")()
    assert np.abs(other.predict(images) - blurred.predict(images)).max() > 1e-3


def test_attacks_see_through_the_blur(digits):
    images, labels = digits[0][:8], digits[1][:8]
    blurred = BlurNetTransformer(classifier(), size=5)()
    gradient = blurred.loss_gradient(images, np.eye(10)[labels])
    assert np.abs(gradient).max() > 0
    attack = FastGradientMethod(blurred, eps=0.1)
    assert attack.generate(images).shape == images.shape


def test_the_input_blur(digits):
    images = digits[0][:5]
    behind = classifier(preprocessing_defences=[InputBlur(5)])
    blurred = uniform_filter(images, (0, 0, 5, 5), mode="constant")
    np.testing.assert_allclose(
        behind.predict(images), classifier().predict(blurred), rtol=1e-4, atol=1e-5
    )
    assert np.abs(behind.loss_gradient(images, np.eye(10)[digits[1][:5]])).max() > 0


def test_training_under_total_variation(digits, tmp_path):
    images, labels = digits[0][:320], digits[1][:320]
    results = {}
    for alpha in (0.0, 0.05):
        target = classifier()
        trainer = BlurNetTrainer(
            target, "tv", alpha, learning_rate=0.01, schedule="one-cycle", verbose=False
        )
        assert trainer.layer == "0"
        history = trainer.fit(images, labels, batch_size=64, nb_epochs=8)
        results[alpha] = history[-1]
        assert (target.predict(images).argmax(1) == labels).mean() > 0.9
    assert results[0.05].penalty < 0.7 * results[0.0].penalty


def test_a_protected_classifier_can_be_protected_again():
    network = torch.nn.Sequential(*small()[:2], torch.nn.Conv2d(8, 8, 3, padding=1), *small()[2:])
    once = BlurNetTransformer(classifier(network), "0", size=3, trainable=True)()
    twice = BlurNetTransformer(once, "2", size=3, trainable=True)()
    optimised = [p for group in twice.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in optimised} == {id(p) for p in twice.model.parameters()}
    assert len(optimised) == len(list(once.model.parameters())) + 1
    assert not {id(p) for p in optimised} & {id(p) for p in once.model.parameters()}


def test_the_network_keeps_its_modes():
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.BatchNorm2d(8), *small()[1:]
    ).train()
    target = classifier(network)
    network.train()[1].eval()
    BlurNetTransformer(target)
    assert network.training
    assert not network[1].training


def test_training_a_blur_under_the_linf_penalty(digits):
    images, labels = digits[0][:192], digits[1][:192]
    target = BlurNetTransformer(classifier(), size=3, trainable=True)()
    trainer = BlurNetTrainer(target, "linf", 0.3, learning_rate=0.01, verbose=False)
    assert trainer.layer == "0.defence"
    blur = target.model[0].defence
    assert isinstance(blur, DepthwiseBlur)
    before = blur.weight.detach().clone()
    history = trainer.fit(images, np.eye(10)[labels], batch_size=64, nb_epochs=3)
    assert not torch.equal(blur.weight, before)
    assert history[-1].penalty < history[0].penalty
    assert history[-1].loss < history[0].loss


def test_training_goes_on_where_it_stopped(digits, tmp_path):
    images, labels = digits[0][:128], digits[1][:128]
    path = tmp_path / "state.safetensors"

    def stop(done, total, last):
        if done == 3:
            raise KeyboardInterrupt

    def trained(**options):
        target = classifier()
        BlurNetTrainer(target, verbose=False).fit(
            images, labels, batch_size=64, nb_epochs=3, **options
        )
        return target.predict(images)

    with pytest.raises(KeyboardInterrupt):
        trained(checkpoint=path, progress=stop)
    np.testing.assert_array_equal(trained(checkpoint=str(path)), trained())


def test_standardisation_is_applied_in_training(digits):
    images, labels = digits[0][:64], digits[1][:64]
    standardised = classifier(preprocessing=(0.5, 0.5))
    plain = classifier()
    BlurNetTrainer(standardised, verbose=False).fit(images, labels, nb_epochs=1)
    BlurNetTrainer(plain, verbose=False).fit((images - 0.5) / 0.5, labels, nb_epochs=1)
    np.testing.assert_allclose(
        standardised.predict(images), plain.predict((images - 0.5) / 0.5), rtol=1e-4, atol=1e-5
    )


def test_bad_arguments_are_refused(digits):
    dense = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    with pytest.raises(ValueError, match="Sequential has none"):
        BlurNetTransformer(classifier(dense))
    with pytest.raises(ValueError, match=r"layer '3'.*feature maps.*\(1, 10\)"):
        BlurNetTransformer(classifier(), layer="3")
    with pytest.raises(ValueError, match="name of a layer"):
        BlurNetTransformer(classifier(), layer="conv1")
    with pytest.raises(ValueError, match="odd size"):
        BlurNetTransformer(classifier(), size=4)
    with pytest.raises(ValueError, match="kernel to be box"):
        BlurNetTransformer(classifier(), kernel="gaussian", trainable=True)
    with pytest.raises(ValueError, match="PyTorchClassifier"):
        BlurNetTransformer(dense)
    with pytest.raises(ValueError, match=r"one trainable blur.*trainable=True"):
        BlurNetTrainer(classifier(), "linf")
    with pytest.raises(ValueError, match="with an optimizer"):
        BlurNetTrainer(classifier(optimizer=None))
    with pytest.raises(ValueError, match="penalty of"):
        BlurNetTrainer(classifier(), "l1")
    with pytest.raises(TypeError, match="'epochs'"):
        BlurNetTrainer(classifier()).fit(digits[0], digits[1], epochs=3)
