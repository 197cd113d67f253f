"""``foolart train`` on a small data set."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
for needed in ("safetensors", "tomli_w", "typer"):
    pytest.importorskip(needed)

from foolart.adapters.training import fit  # noqa: E402
from foolart.evaluation import cli, train  # noqa: E402
from foolart.evaluation.networks import build  # noqa: E402
from foolart.evaluation.train import accuracy, load_arrays, prepare  # noqa: E402
from foolart.plugins.blurnet import DepthwiseBlur  # noqa: E402


@pytest.fixture
def data(tmp_path):
    """Images whose class is the third that is bright."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    images = rng.integers(0, 60, (60, 32, 32, 3)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[10 * label : 10 * label + 10] += 120
    path = tmp_path / "bars.npz"
    np.savez(path, images=images, labels=labels)
    return str(path)


def run(*arguments):
    return cli.run(["train", *map(str, arguments)])


BRIEF = ["--epochs", 4, "--batch-size", 20, "--learning-rate", 0.01]


def test_the_command_trains_and_writes_weights(data, tmp_path, capsys):
    out = tmp_path / "net.safetensors"
    assert run("resnet8", "--data", data, "--test", data, "--out", out, *BRIEF) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bars.npz", "net.safetensors"]
    network = build("resnet8", out, classes=3)
    said = capsys.readouterr().out
    assert f"test: accuracy {accuracy(network, *load_arrays(data)):.4f}" in said
    assert f"wrote {out}" in said.replace("\n", "")


def test_an_interrupted_training_goes_on_to_the_same_weights(data, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole.safetensors", tmp_path / "net.safetensors"
    assert run("resnet8", "--data", data, "--out", whole, *BRIEF) == 0

    def stopped(*arguments, progress, **options):
        def stop(done, total, last):
            if done > total // 2:
                raise KeyboardInterrupt

        return fit(*arguments, progress=stop, **options)

    monkeypatch.setattr(train, "fit", stopped)
    assert run("resnet8", "--data", data, "--out", out, *BRIEF) == 130
    assert not out.exists()
    monkeypatch.setattr(train, "fit", fit)
    assert run("resnet8", "--data", data, "--out", out, *BRIEF) == 0
    a, b = (build("resnet8", path, classes=3).state_dict() for path in (whole, out))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_network_with_a_trained_blur_is_loaded_with_it(data, tmp_path):
    out = tmp_path / "net.safetensors"
    options = ["--penalty", "linf", "--alpha", 0.1, "--size", 3, *BRIEF[:1], 1]
    assert run("resnet8", "--data", data, "--out", out, *options) == 0
    network = build("resnet8", out, classes=3)
    blur = network.get_submodule("conv1.defence")
    assert blur.weight.shape == (16, 1, 3, 3)
    assert blur.weight.std() > 0


def test_the_linf_penalty_brings_its_blur():
    network, layer = prepare("lisa-cnn", (3, 32, 32), 4, penalty="linf", size=3)
    assert layer == "conv1.defence"
    assert isinstance(network.get_submodule(layer), DepthwiseBlur)
    assert prepare("lisa-cnn", (3, 32, 32), 4, penalty="tv")[1] == "conv1"
    assert prepare("c4", (1, 28, 28), 4)[1] is None


def test_weights_come_from_the_seed():
    a, b, c = (prepare("c4", (1, 28, 28), 3, seed=s)[0].conv1.weight for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vgg"], "unknown network 'vgg'"),
        (["c4"], "does not take images"),
        (["lisa-cnn", "--out", "n.pt"], "ends in .safetensors"),
        (["lisa-cnn", "--data", "none.npz"], "no such file"),
        (["lisa-cnn", "--penalty", "tv"], "with an alpha above 0"),
        (["lisa-cnn", "--alpha", 0.1], "give a penalty together"),
        (["lisa-cnn", "--layer", "conv1"], "give a penalty together"),
        (["lisa-cnn", "--penalty", "tv", "--alpha", 1, "--layer", "conv9"], "'conv9'"),
        (["lisa-cnn", "--penalty", "tv", "--alpha", 1, "--layer", "dense"], "feature maps"),
        (["lisa-cnn", "--penalty", "l7", "--alpha", 1], "a penalty of"),
        (["lisa-cnn", "--epochs", 0], "epochs >= 1"),
        (["lisa-cnn", "--device", "tpu9"], "device tpu9 cannot be used"),
    ],
)
def test_bad_arguments_are_refused(data, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run("--data", data, "--out", "n.safetensors", *arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bars.npz"]


def test_test_data_of_other_classes_are_refused(data, tmp_path, capsys):
    other = tmp_path / "other.npz"
    np.savez(other, images=np.zeros((2, 32, 32, 3), np.uint8), labels=[0, 3])
    out = tmp_path / "n.safetensors"
    assert run("lisa-cnn", "--data", data, "--test", other, "--out", out) == 2
    assert "other images or classes" in " ".join(capsys.readouterr().err.split())


@pytest.mark.filterwarnings("error:The given NumPy array is not writable")
def test_labels_below_zero_are_refused(data, tmp_path, capsys):
    load_arrays(data)
    below = tmp_path / "below.npz"
    np.savez(below, images=np.zeros((2, 32, 32, 3), np.uint8), labels=[0, -1])
    assert run("lisa-cnn", "--data", below, "--out", tmp_path / "n.safetensors") == 2
    assert "expected labels from 0 on, got -1" in capsys.readouterr().err
