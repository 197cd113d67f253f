import pytest
import torch

from foolart.plugins.guard import Guard, find, guard, modes_kept


class Half(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("factor", torch.tensor(0.5))

    def forward(self, x):
        return x * self.factor


def network():
    torch.manual_seed(0)
    inner = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU())
    return torch.nn.Sequential(inner, torch.nn.Linear(5, 3)).train()


def test_defences_stand_after_their_layers():
    net = network()
    x = torch.randn(7, 4)
    before = net(x)
    guarded = guard(net, {"0.0": Half(), "0": Half(), "1": Half()})
    assert torch.equal(guarded(x), net[1](net[0][1](net[0][0](x) / 2) / 2) / 2)
    assert torch.equal(net(x), before)
    assert isinstance(guarded[0], Guard)
    assert isinstance(guarded[0].layer[0], Guard)


def test_codebooks_are_buffers_and_modes_are_kept():
    net = network()
    net[0].eval()
    net[1].weight.requires_grad_(False)
    guarded = guard(net, {"0": Half()})
    assert "0.defence.factor" in guarded.state_dict()
    assert (guarded.training, guarded[0].training, guarded[1].training) == (True, False, True)
    assert not guarded[1].weight.requires_grad


def test_one_defence_for_two_layers_is_copied():
    half = Half()
    guarded = guard(network(), {"0": half, "1": half})
    assert guarded[0].defence is not guarded[1].defence
    assert guarded[0].defence is not half


@pytest.mark.parametrize("name", ["0.7", "", "layer"])
def test_unknown_layers_are_refused_with_the_nearest_names(name):
    with pytest.raises(ValueError, match=r"the name of a layer of Sequential.*'0'"):
        guard(network(), {name: Half()})
    with pytest.raises(ValueError, match="nearest are"):
        find(network(), name)


def test_layers_without_a_single_tensor_are_refused():
    lstm = torch.nn.Sequential(torch.nn.LSTM(4, 5))
    with pytest.raises(ValueError, match="expected LSTM to return one tensor, got tuple"):
        guard(lstm, {"0": Half()})(torch.randn(2, 3, 4))


def test_modes_inside_a_layer_are_kept():
    net = network()
    net[0][0].eval()
    guarded = guard(net, {"0": Half(), "1": Half()})
    assert guarded[0].training
    assert not guarded[0].layer[0].training
    assert guarded[0].layer[1].training


def test_modes_are_put_back_one_by_one():
    net = network()
    net[0][0].eval()

    def fail():
        with modes_kept(net):
            net.eval()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert [m.training for m in net.modules()] == [True, True, False, True, True]
