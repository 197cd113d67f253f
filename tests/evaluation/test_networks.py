"""The papers' networks: their layers, and that weights reach them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from foolart.adapters.weights import save_weights  # noqa: E402
from foolart.evaluation.networks import NETWORKS, build, c9, lisa_cnn, resnet20  # noqa: E402

SHAPES = {"c4": (1, 28, 28)}


# Counted by hand: a convolution has in * out * height * width weights and out biases.
PARAMETERS = {
    "lisa-cnn": 12_352 + 295_040 + 409_728 + 9_234,
    "c4": 4_160 + 295_040 + 409_728 + 1_290,
    "c9": 298_752 + 295_168 + 2 * 590_080 + 1_180_160 + 1_179_904 + 295_040 + 4_096 + 1_290,
    "resnet8": 464 + 4_672 + 13_952 + 55_552 + 650,
    "resnet20": 464 + 3 * 4_672 + 13_952 + 2 * 18_560 + 55_552 + 2 * 73_984 + 650,
}


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_networks_have_the_papers_layers(name, parameters):
    network = build(name)
    assert not network.training
    assert sum(p.numel() for p in network.parameters()) == parameters
    with torch.no_grad():
        outputs = network(torch.rand(2, *SHAPES.get(name, (3, 32, 32))))
    assert outputs.shape == (2, 18 if name == "lisa-cnn" else 10)


def test_feature_maps_of_lisa_cnn():
    network = lisa_cnn()
    shapes = []
    for layer in (network.conv1, network.conv2, network.conv3):
        layer.register_forward_hook(lambda _m, _i, output: shapes.append(tuple(output.shape[1:])))
    network(torch.rand(1, 3, 32, 32))
    assert shapes == [(64, 16, 16), (128, 6, 6), (128, 2, 2)]


def test_shortcuts_without_parameters():
    block = resnet20().layer2[0]
    with torch.no_grad():
        block.bn2.weight.zero_()
        x = torch.rand(1, 16, 8, 8)
        y = block(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert (y[:, :8] == 0).all()
    assert (y[:, 24:] == 0).all()


def test_networks_load_their_weights(tmp_path):
    network = build("resnet8", classes=5)
    save_weights(network, tmp_path / "w.safetensors")
    again = build("resnet8", tmp_path / "w.safetensors", classes=5)
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(network(x), again(x))


def test_other_sizes_and_unknown_names():
    assert c9(channels=1, classes=4)(torch.rand(1, 1, 32, 32)).shape == (1, 4)
    with pytest.raises(ValueError, match=r"unknown network 'vgg'.*lisa-cnn, c4"):
        build("vgg")
    assert set(NETWORKS) == {"lisa-cnn", "c4", "c9", "resnet8", "resnet20"}
