import numpy as np
import pytest
import torch

from foolart.plugins.deflection import ActivationMap, PixelDeflection, _sources, denoise
from foolart.plugins.randomised import reset


def images(batch=2, channels=3, height=40, width=52, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, height, width, generator=generator)


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(64, 64, 3), (45, 97, 3), (33, 40, 1), (16, 9, 1)]
)
@pytest.mark.parametrize("sigma", [0.04, 0.3])
def test_denoising_is_that_of_scikit_image(height, width, channels, sigma):
    pytest.importorskip("pywt")
    restoration = pytest.importorskip("skimage.restoration")
    # An image with structure at all scales, so that thresholds differ between subbands.
    ramp = torch.linspace(0, 3, width) + torch.linspace(0, 2, height)[:, None]
    x = (0.4 + 0.2 * torch.sin(ramp**2) + 0.3 * images(1, channels, height, width)).double()
    expected = restoration.denoise_wavelet(
        x[0].numpy().transpose(1, 2, 0),
        sigma=sigma,
        method="BayesShrink",
        mode="soft",
        convert2ycbcr=channels == 3,
        channel_axis=-1,
        rescale_sigma=True,
    )
    found = denoise(x, sigma)[0].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.abs(found - x[0].numpy().transpose(1, 2, 0)).max() > 1e-3


def test_denoising_does_not_depend_on_the_batch():
    x = images(5)
    torch.testing.assert_close(denoise(x, 0.1), torch.cat([denoise(i[None], 0.1) for i in x]))


def test_results_do_not_depend_on_chunks(monkeypatch):
    x = images(5)
    whole = PixelDeflection(seed=1)(x)
    monkeypatch.setattr("foolart.plugins.deflection.FLOATS_AT_ONCE", 1)
    torch.testing.assert_close(PixelDeflection(seed=1)(x), whole)


def test_deflections_copy_near_pixels_of_the_same_channel():
    channels, height, width, window = 3, 30, 41, 4
    place = torch.arange(channels * height * width).view(1, channels, height, width)
    draws = torch.rand(1, 4, 400, generator=torch.Generator().manual_seed(0))
    deflected = PixelDeflection(400, window)._deflected(place.double(), draws)[0].long()
    changed = (deflected != place[0]).nonzero()
    source = deflected[tuple(changed.T)]
    row, column = source % (height * width) // width, source % width
    # A pixel may be drawn twice, or be its own source.
    assert 300 < len(changed) <= 400
    assert torch.equal(source // (height * width), changed[:, 0])
    assert (row - changed[:, 1]).abs().max() == window
    assert (column - changed[:, 2]).abs().max() == window


def test_deflections_avoid_where_the_map_is_high():
    class Left(torch.nn.Module):
        def forward(self, x):
            activation = torch.zeros(len(x), *x.shape[2:])
            activation[..., : x.shape[3] // 2] = 1
            return activation

    x = images(batch=3)
    changed = PixelDeflection(500, sigma=0, activation=Left())(x) != x
    half = x.shape[3] // 2
    assert changed[..., :half].sum() == 0
    assert changed[..., half:].sum() > 1000


def test_a_map_of_ones_leaves_all_places_alike():
    class Everywhere(torch.nn.Module):
        def forward(self, x):
            return torch.ones(len(x), *x.shape[2:])

    x = images()
    changed = PixelDeflection(500, sigma=0, activation=Everywhere())(x) != x
    halves = changed[..., :26].sum(), changed[..., 26:].sum()
    assert min(halves) > 350


def test_deflections_are_spread_evenly():
    x = images(batch=200, channels=1, height=4, width=6)
    counts = (PixelDeflection(3, 2, sigma=0)(x) != x).float().mean((0, 1))
    assert counts.min() > 0.4 * counts.mean()
    assert counts.max() < 1.6 * counts.mean()


def test_it_is_random_and_reproducible():
    x = images()
    defence = PixelDeflection(seed=3)
    first, second = defence(x), defence(x)
    assert not torch.equal(first, second)
    reset(defence)
    assert torch.equal(defence(x), first)
    assert first.min() >= 0
    assert first.max() <= 1


def test_gradients():
    x, weights = images(height=8, width=9).double(), images(height=8, width=9, seed=1).double()
    x = 0.2 + 0.6 * x
    for kind in ("straight-through", "true"):
        defence = PixelDeflection(5, 3, sigma=0.05, gradient=kind)
        inputs = x.clone().requires_grad_()
        (g,) = torch.autograd.grad((defence(inputs) * weights).sum(), inputs)
        if kind == "straight-through":
            assert torch.equal(g, weights)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).double()
    sides = []
    for sign in (1, -1):
        reset(defence)
        sides.append((defence(x + sign * 1e-7 * direction) * weights).sum())
    assert (g * direction).sum() == pytest.approx(((sides[0] - sides[1]) / 2e-7).item(), rel=1e-4)


# --- the activation map


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, 2), torch.nn.ReLU())
        self.dropout = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(6, 7)

    def forward(self, x):
        return self.head(self.dropout(self.features(x).mean((2, 3))))


def test_the_activation_map_is_the_weighted_sum_of_class_maps():
    net = Net()
    x = images(batch=3, height=12, width=14)
    found = ActivationMap(net, "features", "head", top=2)(x)
    assert net.training
    features = net.features(x).detach()
    order = net.eval()(x).argsort(1, descending=True)
    for i in range(3):
        raw = sum(
            torch.tensordot(net.head.weight[order[i, k]], features[i], 1) / 2 ** (k + 1)
            for k in range(2)
        ).detach()
        large = torch.nn.functional.interpolate(raw[None, None], (12, 14), mode="bilinear")[0, 0]
        expected = (large - large.min()) / (large.max() - large.min())
        torch.testing.assert_close(found[i], expected)
    assert len(net.features._forward_hooks) == 0


def test_a_module_that_runs_twice_counts_when_it_runs_last():
    class Twice(Net):
        def __init__(self):
            super().__init__()
            self.act = torch.nn.ReLU()

        def forward(self, x):
            return self.head(self.act(self.features(self.act(x))).mean((2, 3)))

    x = images()
    expected = ActivationMap(Twice(), "features", "head")(x)
    torch.testing.assert_close(ActivationMap(Twice(), "act", "head")(x), expected)


def test_the_activation_map_is_no_part_of_what_is_trained_or_saved():
    defence = PixelDeflection(activation=ActivationMap(Net(), "features", "head"))
    assert defence.state_dict() == {}
    assert defence(images()).shape == images().shape


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("feature", "head"), "nearest are 'features'"),
        (("features", "dropout"), "'dropout' to be a linear layer, got Dropout"),
    ],
)
def test_the_activation_map_refuses(names, message):
    with pytest.raises(ValueError, match=message):
        ActivationMap(Net(), *names)


@pytest.mark.parametrize(
    "arguments", [{"deflections": -1}, {"window": 0}, {"sigma": -1.0}, {"sigma": float("nan")}]
)
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="deflections >= 0, window >= 1 and sigma >= 0"):
        PixelDeflection(**arguments)
    with pytest.raises(ValueError, match="straight-through, true, got 'surrogate'"):
        PixelDeflection(gradient="surrogate")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_denoised_in_single(dtype):
    x = images().to(dtype)
    found = PixelDeflection(sigma=0.04)(x)
    assert found.dtype == dtype
    expected = PixelDeflection(sigma=0.04)(x.float())
    torch.testing.assert_close(found, expected.to(dtype), rtol=0, atol=1e-6)


def test_the_true_gradient_counts_every_pixel_that_is_read_once():
    x = images(1, 2, 5, 5).requires_grad_()
    defence = PixelDeflection(200, window=2, sigma=0.0, gradient="true")
    y = defence(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    # All values differ: how often each was read can be counted.
    reads = (y.flatten()[:, None] == x.flatten()).sum(0).reshape(x.shape)
    assert reads.max() > 1
    assert torch.equal(gradient, reads.to(gradient))


def test_of_several_deflections_of_a_pixel_the_last_counts():
    x = images(1, 1, 3, 3)
    source, target = torch.tensor([[1, 5, 2, 7]]), torch.tensor([[4, 4, 0, 4]])
    read = _sources(source, target, 9)
    assert read.tolist() == [[2, 1, 2, 3, 7, 5, 6, 7, 8]]
    assert _sources(source[:, :0], target[:, :0], 9).tolist() == [list(range(9))]
    assert x.flatten(1).gather(1, read)[0, 4] == x[0, 0, 2, 1]


def test_features_that_the_network_does_not_use_are_refused():
    network = Net()
    network.spare = torch.nn.Conv2d(3, 3, 1)
    with pytest.raises(ValueError, match="layer 'spare' is not used"):
        ActivationMap(network, "spare", "head")(images())
