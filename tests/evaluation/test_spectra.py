"""The spectra of feature maps, and the command that plots them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
for needed in ("matplotlib", "PIL", "safetensors", "tomli_w", "typer"):
    pytest.importorskip(needed)

from PIL import Image  # noqa: E402

from foolart.evaluation import cli  # noqa: E402
from foolart.evaluation.spectra import (  # noqa: E402
    high_frequency_share,
    log_spectrum,
    plot_spectra,
    spectra,
)

NETWORK = """
import torch

def make():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(1176, 4)
    )

def dense():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 4))
"""


def striped():
    """A constant map, and one with stripes of one pixel: the Nyquist frequency."""
    clean = torch.full((1, 3, 8, 8), 0.6)
    attacked = clean.clone()
    attacked[..., ::2] += 0.1
    return clean, attacked


def test_spectra_show_where_the_energy_is(tmp_path):
    clean, attacked = striped()
    found = spectra(clean, attacked, size=3)
    assert list(found) == ["clean", "attacked", "difference", "blurred"]
    assert np.unravel_index(found["clean"][0].argmax(), (8, 8)) == (4, 4)
    assert found["difference"][0][4, 0] == pytest.approx(np.log1p(64 * 0.05))
    assert found["blurred"][0][4, 0] < found["difference"][0][4, 0] / 2
    assert log_spectrum(clean)[0, 0, 4, 4] == pytest.approx(np.log1p(64 * 0.6))
    assert high_frequency_share(attacked - clean)[0] == pytest.approx(1)
    assert high_frequency_share(clean)[0] == pytest.approx(0)
    assert list(spectra(clean)) == ["clean"]
    out = plot_spectra(found, [0, 2], tmp_path / "spectra.png")
    with Image.open(out) as image:
        assert image.size[0] > image.size[1]
    with pytest.raises(ValueError, match="from 0 to 2"):
        plot_spectra(found, [3], tmp_path / "spectra.png")
    with pytest.raises(ValueError, match="same shape"):
        spectra(clean, attacked[..., :4])
    with pytest.raises(ValueError, match=r"maps \(1, K, H, W\)"):
        spectra(clean[0])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "spectral_network.py").write_text(NETWORK)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 200, (16, 16, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "clean.png")
    pixels[4:9, 4:9] += 50
    Image.fromarray(pixels).save(tmp_path / "attacked.png")
    Image.fromarray(pixels[:8]).save(tmp_path / "small.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def run(*arguments):
    return cli.run(["spectra", *arguments, "--model", "spectral_network:make"])


def test_the_command_plots_chosen_maps(folder, capsys):
    assert run("clean.png", "attacked.png", "--map", "1", "--map", "5", "-o", "two.png") == 0
    said = capsys.readouterr().out
    assert "frequency at 0: clean " in said
    assert "difference" in said
    with Image.open(folder / "two.png") as image:
        assert image.size == (960, 480)
    # Four maps by default, and only one column for a single image.
    assert run("clean.png", "--layer", "1", "-o", "one.png") == 0
    with Image.open(folder / "one.png") as image:
        assert image.size == (240, 960)
    assert run("clean.png", "attacked.png", "--layer", "input", "-o", "pixels.png") == 0
    assert "attacked" not in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.png"], "image none.png does not exist"),
        (["clean.png", "clean.png", "clean.png"], "got 3 images"),
        (["clean.png", "small.png"], "does not take image small.png of shape (3, 8, 16)"),
        (["clean.png", "--gray"], "does not take image clean.png of shape (1, 16, 16)"),
        (["clean.png", "--layer", "conv9"], "expected the name of a layer"),
        (["clean.png", "--layer", "3"], "name a convolutional layer"),
        (["clean.png", "--map", "6"], "feature maps from 0 to 5, got [6]"),
        (["clean.png", "attacked.png", "--size", "4"], "odd size"),
        (["clean.png", "--model", "spectral_network:dense"], "has none"),
        (["clean.png", "-o", "figure.docx"], "figure.docx: expected a name that ends in"),
    ],
)
def test_bad_input_is_refused(folder, capsys, arguments, message):
    before = sorted(folder.iterdir())
    model = [] if "--model" in arguments else ["--model", "spectral_network:make"]
    out = [] if "-o" in arguments else ["-o", "figure.png"]
    assert cli.run(["spectra", *arguments, *model, *out]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert [path for path in sorted(folder.iterdir()) if path.suffix] == [
        path for path in before if path.suffix
    ]
