import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
typer = pytest.importorskip("typer")
pytest.importorskip("safetensors")

from typer.testing import CliRunner  # noqa: E402

from foolart.evaluation.inspect_command import (  # noqa: E402
    codebook_command,
    inspect_layers_command,
)
from foolart.plugins.codebook import ProductQuantizer  # noqa: E402

NETWORK = """
import torch

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 10)
    )
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    (tmp_path / "own_network.py").write_text(NETWORK)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (12, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "digits.npz", images=images, labels=np.arange(12) % 10)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("inspect-layers")(inspect_layers_command)
    app.command("codebook")(codebook_command)

    def call(*arguments):
        result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
        if isinstance(result.exception, ValueError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return call


COMMON = ["--data", "digits.npz", "--model", "own_network:make"]


@pytest.mark.filterwarnings("ignore:learning")
def test_a_codebook_of_images_is_learnt_and_inspected(run, tmp_path):
    output = run("codebook", "--data", "digits.npz", "-o", "book.safetensors", "-K", "9",
                 "--method", "sample", "--patch", "2")  # fmt: skip
    assert "wrote book.safetensors: codewords=9, slices=1, shape=(1, 2, 2)" in output
    book = ProductQuantizer.load(tmp_path / "book.safetensors", channels=1)
    images = np.load(tmp_path / "digits.npz")["images"]
    expected = ProductQuantizer.fit(
        images[:, None].astype(np.float32) / 255, 9, patch=2, stride=2, method="sample"
    )
    assert torch.equal(book.codewords, expected.codewords)

    output = run("inspect-layers", *COMMON, "--attack", "ddn(steps=3)", "--out", "look.json",
                 "--defence", "patch-replacement(codebook='book.safetensors')")  # fmt: skip
    found = json.loads((tmp_path / "look.json").read_text())
    assert found["layers"] == ["input", "0", "1", "2", "3", "output"]
    assert found["images"] == 12
    assert found["accuracy"]["adversarial"] == 0
    # The noise is 0.22 of a range of 1, clipped.
    assert 0.2 < found["distortion"]["noise"][0] < 0.5
    assert "defended adversarial, from defended original" in found["distortion"]
    assert "relative distortion, 12 images" in output


def test_a_codebook_of_a_layer_is_learnt(run, tmp_path):
    run("codebook", *COMMON, "-o", "book.safetensors", "-K", "5", "--layer", "0", "--depth", "2",
        "--method", "sample")  # fmt: skip
    book = ProductQuantizer.load(tmp_path / "book.safetensors", channels=4, shape=(2, 3, 3))
    assert book.codewords.shape == (2, 5, 18)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["codebook", "--data", "digits.npz", "-o", "no/book"], "folder no does not exist"),
        (["codebook", *COMMON, "-o", "b", "--layer", "conv"], "got 'conv': the nearest are"),
        (["codebook", "--data", "none.npz", "-o", "b"], "no such file"),
        (["inspect-layers", *COMMON, "--layer", "conv"], "got 'conv': the nearest are"),
        (["inspect-layers", *COMMON, "--noise", "-1"], "noise >= 0, a variance, got -1"),
    ],
)
def test_bad_input_is_refused(run, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(*arguments)
