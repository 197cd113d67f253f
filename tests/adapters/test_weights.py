"""Weights on disk, in both formats and both layouts."""

from __future__ import annotations

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from foolart.adapters.weights import (  # noqa: E402
    load_weights,
    read_tensors,
    save_weights,
    write_tensors,
)


class Small(torch.nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv = torch.nn.Conv2d(2, 3, (3, 2))
            self.norm = torch.nn.BatchNorm2d(3)
            self.dense = torch.nn.Linear(3 * 2 * 4, 5)

    def forward(self, x):
        return self.dense(self.norm(self.conv(x)).flatten(1))


def outputs(network):
    x = torch.randn(4, 2, 4, 5, generator=torch.Generator().manual_seed(1))
    return network.eval()(x)


def test_safetensors_round_trip(tmp_path):
    network, other = Small(0), Small(1)
    path = tmp_path / "new" / "small.safetensors"
    save_weights(network, path)
    load_weights(other, path)
    assert torch.equal(outputs(network), outputs(other))
    assert [p.name for p in path.parent.iterdir()] == ["small.safetensors"]


def test_numpy_archives(tmp_path):
    network, other = Small(0), Small(1)
    arrays = {
        name: tensor.numpy()
        for name, tensor in network.state_dict().items()
        if "num_batches" not in name
    }
    np.savez(tmp_path / "small.npz", **arrays)
    load_weights(other, tmp_path / "small.npz")
    assert torch.equal(outputs(network), outputs(other))


def test_the_layout_of_tensorflow(tmp_path):
    """A convolution and a dense layer after a channels-last map, computed as TensorFlow does."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 2, 2, 3)).astype(np.float32)
    dense = rng.normal(size=(2 * 4 * 3, 5)).astype(np.float32)
    arrays = {
        "conv_weight": kernel,
        "conv_bias": np.arange(3, dtype=np.float32),
        "dense_weight": dense,
        "dense_bias": np.arange(5, dtype=np.float32),
    }
    np.savez(tmp_path / "tf.npz", **arrays)
    network = torch.nn.Module()
    network.conv, network.dense = torch.nn.Conv2d(2, 3, (3, 2)), torch.nn.Linear(24, 5)
    load_weights(network, tmp_path / "tf.npz")

    image = rng.normal(size=(4, 5, 2)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 2), axis=(0, 1))
    maps = np.einsum("ijchw,hwco->ijo", windows, kernel) + arrays["conv_bias"]
    expected = maps.ravel() @ dense + arrays["dense_bias"]
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    got = network.dense(network.conv(x).flatten(1))[0]
    np.testing.assert_allclose(got.detach(), expected, rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_is_named(tmp_path):
    state = dict(Small().state_dict())
    del state["conv.bias"]
    state["dense.bias"] = torch.zeros(7)
    state["more"] = torch.zeros(1)
    path = tmp_path / "other.safetensors"
    write_tensors(state, path)
    network = Small(1)
    before = outputs(network)
    message = r"conv.bias is missing; more is unknown; dense.bias is \(7,\) instead of \(5,\)"
    with pytest.raises(ValueError, match=message):
        load_weights(network, path)
    assert torch.equal(outputs(network), before)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        read_tensors(tmp_path / "none.npz")
    for name in ("broken.npz", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            read_tensors(tmp_path / name)
    (tmp_path / "weights.pt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"expected .safetensors or .npz, got '.pt'"):
        read_tensors(tmp_path / "weights.pt")
    np.savez(tmp_path / "pickled.npz", a=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"pickled\.npz cannot be read"):
        read_tensors(tmp_path / "pickled.npz")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"foolart\[eval\]"):
        save_weights(Small(), tmp_path / "small.safetensors")


def test_a_single_layer_is_no_tensorflow_network(tmp_path):
    layer, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    save_weights(layer, str(tmp_path / "layer.safetensors"))
    load_weights(other, str(tmp_path / "layer.safetensors"))
    assert torch.equal(other.weight, layer.weight)
    assert torch.equal(other.bias, layer.bias)


def test_tied_weights_are_written(tmp_path):
    network = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 3), "b": torch.nn.Linear(3, 3)})
    network["b"].weight = network["a"].weight
    save_weights(network, tmp_path / "tied.safetensors")
    found = read_tensors(tmp_path / "tied.safetensors")
    assert torch.equal(found["a.weight"], network["a"].weight)
    assert torch.equal(found["b.weight"], network["a"].weight)
