"""Feature maps of named layers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from foolart.plugins.features import feature_maps, first_convolution, tapped  # noqa: E402


class Tail(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x


@pytest.fixture
def network():
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        Tail(),
        torch.nn.Linear(72, 3),
    )


X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_maps_are_those_of_the_layer_and_the_rest_is_not_computed(network):
    x = X.clone().requires_grad_()
    maps = feature_maps(network, "1", x)
    assert torch.equal(maps, network[1](network[0](X)))
    assert network[3].calls == 0
    (gradient,) = torch.autograd.grad(maps.sum(), x)
    assert gradient.abs().sum() > 0
    assert not network[1]._forward_hooks


def test_a_tap_keeps_the_maps_of_the_last_pass(network):
    with tapped(network, "0") as maps:
        network(X[:2])
        logits = network(X)
        last = maps()
        assert torch.equal(last, network[0](X))
        (gradient,) = torch.autograd.grad(logits.sum() + last.sum(), network[0].bias)
        assert gradient.shape == (2,)
    assert not network[0]._forward_hooks


def test_the_first_convolution(network):
    assert first_convolution(torch.nn.ModuleDict({"a": torch.nn.ReLU(), "b": network})) == "b.0"
    with pytest.raises(ValueError, match="Linear has none"):
        first_convolution(torch.nn.Linear(2, 2))


def test_layers_without_maps_are_refused(network):
    with pytest.raises(ValueError, match=r"layer '4'.*shape \(4, 3\)"):
        feature_maps(network, "4", X)
    with tapped(network, "2"), pytest.raises(ValueError, match=r"layer '2'.*shape \(4, 72\)"):
        network(X)
    with pytest.raises(ValueError, match="name of a layer"):
        feature_maps(network, "conv1", X)
    network.spare = torch.nn.Conv2d(1, 1, 1)
    network.forward = lambda x: network[0](x)
    with pytest.raises(ValueError, match="'spare' is not used"):
        feature_maps(network, "spare", X)
    with tapped(network, "spare") as maps:
        network(X)
        with pytest.raises(ValueError, match="'spare' is not used"):
            maps()
