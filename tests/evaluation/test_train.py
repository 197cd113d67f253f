"""``foolart train`` on a small data set."""

from __future__ import annotations

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from foolart.evaluation.networks import build  # noqa: E402
from foolart.evaluation.train import accuracy, load_arrays, prepare, train_command  # noqa: E402
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
    app = typer.Typer()
    app.command()(train_command)
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_the_command_trains_and_writes_weights(data, tmp_path):
    out = tmp_path / "net.safetensors"
    options = ["--epochs", 4, "--batch-size", 20, "--learning-rate", 0.01]
    result = run("resnet8", "--data", data, "--test", data, "--out", out, *options)
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bars.npz", "net.safetensors"]
    network = build("resnet8", out, classes=3)
    assert f"test: accuracy {accuracy(network, *load_arrays(data)):.4f}" in result.output


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


def test_bad_arguments_are_refused(data, tmp_path):
    for arguments, message in [
        (["vgg", "--out", tmp_path / "n.safetensors"], "unknown network 'vgg'"),
        (["c4", "--out", tmp_path / "n.safetensors"], "does not take images"),
        (["lisa-cnn", "--out", tmp_path / "n.pt"], "ends in .safetensors"),
    ]:
        result = run(*arguments, "--data", data)
        assert result.exit_code == 1
        assert message in str(result.exception)
