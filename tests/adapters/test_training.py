"""The training loop: what it minimises, and that a stop leaves no trace."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from foolart.adapters.training import Epoch, Training, fit  # noqa: E402
from foolart.plugins.blurnet import DepthwiseBlur, total_variation  # noqa: E402


def network(blur=False, dropout=0.2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(1, 6, 3, padding=1),
            DepthwiseBlur(6, 3) if blur else torch.nn.Identity(),
            torch.nn.ReLU(),
            torch.nn.BatchNorm2d(6),
            torch.nn.Flatten(),
            torch.nn.Dropout(dropout),
            torch.nn.Linear(6 * 36, 3),
        )


def data(count=90):
    """Images with a bright bar in one of three places."""
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 3, count))
    images = torch.from_numpy(rng.uniform(0, 0.6, (count, 1, 6, 6))).float()
    for image, label in zip(images, labels, strict=True):
        image[0, 2 * label] += 0.4
    return images, labels


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_training_learns_and_reports():
    net, (images, labels) = network(), data()
    net.eval()
    calls = []
    state = torch.random.get_rng_state()
    history = fit(
        net,
        images,
        labels,
        Training(epochs=8, batch_size=32, learning_rate=0.02, schedule="one-cycle"),
        progress=lambda *arguments: calls.append(arguments),
    )
    assert [epoch.number for epoch in history] == list(range(1, 9))
    assert history[-1].accuracy > 0.9 > history[0].accuracy
    assert history[-1].loss < history[0].loss
    assert not net.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [call[:2] for call in calls] == [(i + 1, 24) for i in range(24)]
    assert calls[0][2] is None
    assert isinstance(calls[-1][2], Epoch)


def test_one_step_is_that_of_the_formula():
    images, labels = data(10)
    net, reference = network(dropout=0), network(dropout=0)
    training = Training(
        epochs=1, batch_size=10, learning_rate=0.1, penalty="tv", layer="0", alpha=0.3
    )
    sgd = torch.optim.SGD(net.parameters(), lr=1.0)
    (epoch,) = fit(net, images, labels, training, optimizer=sgd)
    reference.train()
    maps = reference[0](images)
    variation = total_variation(maps).mean()
    loss = torch.nn.functional.cross_entropy(reference(images), labels)
    (loss + 0.3 * variation).backward()
    expected = torch.cat([(p - 0.1 * p.grad).detach().flatten() for p in reference.parameters()])
    torch.testing.assert_close(weights(net), expected, rtol=1e-4, atol=1e-6)
    assert epoch.loss == pytest.approx(loss.item(), rel=1e-5)
    assert epoch.penalty == pytest.approx(variation.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["tv", "tikhonov", "linf"])
def test_penalties_are_brought_down(name):
    images, labels = data()
    last = []
    for alpha in (0.0, 0.3):
        net = network(blur=name == "linf")
        layer = "1" if name == "linf" else "0"
        training = Training(
            epochs=4, batch_size=30, learning_rate=0.02, penalty=name, layer=layer, alpha=alpha
        )
        last.append(fit(net, images, labels, training)[-1].penalty)
    assert last[1] < 0.8 * last[0]


def test_a_stop_leaves_no_trace(tmp_path):
    images, labels = data()
    training = Training(epochs=4, batch_size=32, schedule="one-cycle", learning_rate=0.01)
    whole, parts = network(), network()
    path = tmp_path / "state.safetensors"
    history = fit(whole, images, labels, training)

    class Stopped(Exception):
        pass

    def stop(done, total, last):
        if done == 8:  # in the third epoch
            raise Stopped

    with pytest.raises(Stopped):
        fit(parts, images, labels, training, checkpoint=path, progress=stop)
    again = network()
    resumed = fit(again, images, labels, training, checkpoint=path)
    assert torch.equal(weights(again), weights(whole))
    assert torch.equal(again[3].running_var, whole[3].running_var)
    assert [e.loss for e in resumed] == [e.loss for e in history]
    # Finished: nothing is trained any more.
    finished = network()
    fit(finished, images, labels, training, checkpoint=path, progress=stop)
    assert torch.equal(weights(finished), weights(whole))


def test_a_checkpoint_of_other_training_is_refused(tmp_path):
    images, labels = data(8)
    path = tmp_path / "state.safetensors"
    fit(network(), images, labels, Training(epochs=1), checkpoint=path)
    with pytest.raises(ValueError, match="epochs was 1 and is 2"):
        fit(network(), images, labels, Training(epochs=2), checkpoint=path)
    with pytest.raises(ValueError, match="another network"):
        fit(network(blur=True), images, labels, Training(epochs=1), checkpoint=path)
    with pytest.raises(ValueError, match=r"expected a \.safetensors file"):
        fit(network(), images, labels, Training(epochs=1), checkpoint=tmp_path / "state.pt")


def test_8_bit_images_are_scaled():
    images, labels = data(40)
    levels = (images * 255).round().to(torch.uint8)
    first, second = network(), network()
    fit(first, levels, labels, Training(epochs=1))
    fit(second, levels.float() / 255, labels, Training(epochs=1))
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs >= 1"),
        ({"batch_size": 0}, "batch_size >= 1"),
        ({"learning_rate": 0}, "learning_rate > 0"),
        ({"schedule": "cosine"}, "schedule to be one of"),
        ({"penalty": "l2", "layer": "0"}, "penalty of"),
        ({"penalty": "tv"}, "a penalty with a layer"),
        ({"alpha": -1}, "alpha >= 0"),
    ],
)
def test_parameters_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Training(**options)


def test_bad_calls_are_refused():
    images, labels = data(8)
    with pytest.raises(ValueError, match="as many labels as images"):
        fit(network(), images, labels[:3], Training())
    with pytest.raises(ValueError, match="require a gradient"):
        fit(network().requires_grad_(False), images, labels, Training())
    with pytest.raises(ValueError, match="DepthwiseBlur under the linf penalty, got Conv2d"):
        fit(network(), images, labels, Training(penalty="linf", layer="0"))
    unused = network()
    unused[0].spare = torch.nn.Conv2d(1, 1, 1)
    with pytest.raises(ValueError, match=r"layer '0\.spare' is not used"):
        fit(unused, images, labels, Training(penalty="tv", layer="0.spare"))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_may_be_integers_of_any_size(dtype):
    images, labels = data(20)
    one, other = network(), network()
    fit(one, images, labels, Training(epochs=1))
    fit(other, images, labels.to(dtype), Training(epochs=1))
    assert torch.equal(weights(one), weights(other))


def test_modes_of_single_layers_are_put_back():
    net = network().train()
    net[3].eval()
    fit(net, *data(20), Training(epochs=1))
    assert net.training
    assert not net[3].training
    assert net[0].training
