import numpy as np
import pytest
import torch

from foolart.plugins.filters import (
    BilateralFilter,
    BitDepthReduction,
    GaussianNoise,
    MedianSmoothing,
)
from foolart.plugins.randomised import RandomChoice, is_random, reset


def images(batch=2, channels=3, height=17, width=14, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, height, width, generator=generator)


def gradient(defence, x, weights):
    x = x.clone().requires_grad_()
    y = defence(x)
    (g,) = torch.autograd.grad((y * weights).sum(), x)
    return y.detach(), g


ALL = [
    BitDepthReduction,
    MedianSmoothing,
    BilateralFilter,
    GaussianNoise,
]


# --- values


@pytest.mark.parametrize("bits", [1, 3, 5, 8])
def test_bit_depth(bits):
    x = images()
    top = 2**bits - 1
    expected = np.round(x.numpy().astype(np.float64) * top) / top
    np.testing.assert_allclose(BitDepthReduction(bits)(x), expected, atol=1e-6)
    assert len(BitDepthReduction(bits)(x).unique()) <= 2**bits


def test_eight_bits_leave_digital_images_alone():
    x = (images() * 255).round() / 255
    torch.testing.assert_close(BitDepthReduction(8)(x), x, atol=1e-7, rtol=0)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_median_is_that_of_scipy(size):
    ndimage = pytest.importorskip("scipy.ndimage")
    x = images()
    expected = ndimage.median_filter(x.numpy(), size=(1, 1, size, size), mode="reflect")
    np.testing.assert_array_equal(MedianSmoothing(size)(x), expected)


@pytest.mark.parametrize(("domain", "range_"), [(0.5, 0.2), (1.5, 0.1)])
def test_bilateral_is_its_definition(domain, range_):
    x = images(1, height=9, width=8).double()
    defence = BilateralFilter(domain, range_)
    image, r = x[0].numpy().transpose(1, 2, 0), defence.radius
    padded = np.pad(image, ((r, r), (r, r), (0, 0)), mode="edge")
    space = np.arange(-r, r + 1) ** 2
    space = np.exp(-(space[:, None] + space) / (2 * domain**2))
    expected = np.empty_like(image)
    for i, j in np.ndindex(image.shape[:2]):
        window = padded[i : i + 2 * r + 1, j : j + 2 * r + 1]
        colour = np.exp(-((window - image[i, j]) ** 2).sum(-1) / (2 * range_**2))
        weight = (space * colour)[..., None]
        expected[i, j] = (weight * window).sum((0, 1)) / weight.sum()
    np.testing.assert_allclose(defence(x)[0].numpy().transpose(1, 2, 0), expected, atol=1e-12)


@pytest.mark.parametrize("range_", [0.1, 0.4])
def test_bilateral_is_that_of_scikit_image_where_that_is_right(range_, monkeypatch):
    # There (0.26) the table of spatial weights is one column too wide, and so read askew; and
    # distances of colours are divided by the number of channels.
    restoration = pytest.importorskip("skimage.restoration")
    x = images(1, channels=1).double()
    monkeypatch.setattr(BilateralFilter, "radius", 2)
    found = BilateralFilter(1e6, range_)(x)[0, 0].numpy()
    expected = restoration.denoise_bilateral(
        x[0, 0].numpy(),
        win_size=5,
        sigma_color=range_,
        sigma_spatial=1e6,
        bins=100_000,
        mode="edge",
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_bilateral_keeps_edges_that_a_blur_would_not():
    x = torch.zeros(1, 1, 9, 10)
    x[..., 5:] = 1
    assert (BilateralFilter(2.0, 0.1)(x) - x).abs().max() < 1e-6
    assert (BilateralFilter(2.0, 100.0)(x) - x).abs().max() > 0.1


@pytest.mark.parametrize("std", [0.05, 0.224])
def test_noise_has_its_standard_deviation(std):
    x = torch.full((4, 3, 64, 64), 0.5)
    change = GaussianNoise(std, seed=1)(x) - x
    # At .224, 2.6 % of values are clipped, which takes 2 % of the deviation away.
    assert change.std() == pytest.approx(std, rel=0.03)
    assert abs(change.mean()) < 5 * std / np.sqrt(change.numel())


def test_noise_is_fresh_reproducible_and_inside_the_box():
    x = images()
    noise = GaussianNoise(0.5, seed=7)
    first, second = noise(x), noise(x)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0] - x[0], first[1] - x[1])
    reset(noise)
    assert torch.equal(noise(x), first)
    reset(noise, draw=1)
    assert torch.equal(noise(x), second)
    assert not torch.equal(GaussianNoise(0.5, seed=8)(x), first)
    assert first.min() == 0
    assert first.max() == 1


def test_noise_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    GaussianNoise()(images())
    assert torch.equal(torch.rand(3), expected)


def test_a_random_choice_takes_all_defences():
    choice = RandomChoice([BitDepthReduction(b) for b in (1, 2, 3)], seed=0)
    x = images()
    expected = [BitDepthReduction(b)(x) for b in (1, 2, 3)]
    draws = [choice(x) for _ in range(60)]
    found = [[torch.equal(d, e) for e in expected].index(True) for d in draws]
    assert set(found) == {0, 1, 2}
    reset(choice)
    assert torch.equal(choice(x), draws[0])
    assert is_random(torch.nn.Sequential(choice))
    assert not is_random(expected and BitDepthReduction())
    with pytest.raises(ValueError, match="at least one defence"):
        RandomChoice([])


@pytest.mark.parametrize("defence", ALL)
def test_results_do_not_depend_on_chunks(defence, monkeypatch):
    x = images(5)
    whole = defence()(x)
    monkeypatch.setattr("foolart.plugins.filters.FLOATS_AT_ONCE", 1)
    assert torch.equal(defence()(x), whole)


# --- gradients


@pytest.mark.parametrize("defence", ALL)
def test_straight_through_is_the_identity_in_value_and_gradient(defence):
    x, weights = images(), images(seed=1)
    expected = defence()(x)
    y, g = gradient(defence(), x, weights)
    assert torch.equal(y, expected)
    assert torch.equal(g, weights)


@pytest.mark.parametrize("defence", [MedianSmoothing(2), MedianSmoothing(3), BilateralFilter()])
def test_the_true_gradient_is_the_derivative(defence):
    defence.gradient = "true"
    x, weights = images(height=7, width=6).double(), images(height=7, width=6, seed=1).double()
    y, g = gradient(defence, x, weights)
    assert torch.equal(y, defence(x))
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).double()
    step = 1e-7 * direction
    difference = ((defence(x + step) - defence(x - step)) * weights).sum() / 2e-7
    assert (g * direction).sum() == pytest.approx(difference.item(), rel=1e-5)


def test_the_true_gradient_of_bit_depth_is_zero_and_of_noise_that_of_the_clip():
    x, weights = images(), images(seed=1)
    _, g = gradient(BitDepthReduction(gradient="true"), x, weights)
    assert torch.count_nonzero(g) == 0
    y, g = gradient(GaussianNoise(0.3, gradient="true"), x, weights)
    assert torch.equal(g, torch.where((y > 0) & (y < 1), weights, 0))


@pytest.mark.parametrize(
    ("defence", "smooth"),
    [
        (BitDepthReduction(3), lambda x: x - torch.sin(2 * torch.pi * 7 * x) / (14 * torch.pi)),
        (MedianSmoothing(3), lambda x: MedianSmoothing(3)._windows(x).mean(-1)),
    ],
)
def test_the_surrogate_lends_its_gradient_only(defence, smooth):
    defence.gradient = "surrogate"
    x, weights = images(), images(seed=1)
    y, g = gradient(defence, x, weights)
    torch.testing.assert_close(y, defence(x))
    _, expected = gradient(smooth, x, weights)
    torch.testing.assert_close(g, expected)
    assert (smooth(x) - defence(x)).abs().mean() < (x.mean() - x).abs().mean()


# --- bad input


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BitDepthReduction(0), "bits from 1 to 16, got 0"),
        (lambda: BitDepthReduction(2.5), "bits from 1 to 16, got 2.5"),
        (lambda: MedianSmoothing(0), "size >= 1, got 0"),
        (lambda: BilateralFilter(0), "domain > 0, got 0"),
        (lambda: BilateralFilter(1, float("inf")), "range > 0, got inf"),
        (lambda: BilateralFilter(gradient="surrogate"), "straight-through, true, got 'surrogate'"),
        (lambda: GaussianNoise(-1), "std >= 0, got -1"),
        (lambda: GaussianNoise(gradient="surrogate"), "straight-through, true"),
        (lambda: MedianSmoothing(gradient="no"), "straight-through, true, surrogate, got 'no'"),
    ],
)
def test_bad_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("defence", ALL)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (images()[0], r"float images \(B, C, H, W\)"),
        ((images() * 255).byte(), r"float images \(B, C, H, W\)"),
        (images() / torch.zeros(1), "NaN or infinity"),
    ],
)
def test_bad_images_are_refused(defence, x, message):
    with pytest.raises(ValueError, match=message):
        defence()(x)


@pytest.mark.parametrize(
    "defence", [BitDepthReduction(), GaussianNoise(0.01)], ids=lambda d: type(d).__name__
)
def test_large_images_of_half_precision_are_finite(defence):
    x = torch.full((1, 3, 160, 160), 0.9, dtype=torch.float16)
    assert x.sum().isinf()
    y = defence(x)
    assert y.dtype == torch.float16
    assert y.isfinite().all()
