import numpy as np
import pytest

pytest.importorskip("art")
torch = pytest.importorskip("torch")

from art.defences.preprocessor import (  # noqa: E402
    FeatureSqueezing,
    JpegCompression,
    TotalVarMin,
)

from foolart.adapters.art.preprocessor_module import (  # noqa: E402
    PreprocessorModule,
    art_preprocessor,
)
from foolart.adapters.art.preprocessors import BitDepthReduction  # noqa: E402
from foolart.plugins import filters  # noqa: E402
from foolart.plugins.randomised import Randomised, is_random  # noqa: E402


@pytest.fixture
def x():
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()


def test_numpy_preprocessors_get_a_straight_through_gradient(x):
    jpeg = JpegCompression(clip_values=(0, 1), quality=50, channels_first=True)
    module = PreprocessorModule(jpeg)
    y = module(x)
    np.testing.assert_allclose(y.detach(), jpeg(x.detach().numpy())[0], atol=1e-6)
    (g,) = torch.autograd.grad((y * x.detach()).sum(), x)
    assert torch.equal(g, x.detach())
    assert module.gradients == ("straight-through",)


def test_what_art_promotes_keeps_its_dtype(x):
    module = PreprocessorModule(FeatureSqueezing(clip_values=(0, 1), bit_depth=3))
    found = module(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, filters.BitDepthReduction(3)(x), atol=1e-6, rtol=0)


def test_pytorch_preprocessors_keep_theirs_on_request(x):
    preprocessor = BitDepthReduction(3, gradient="surrogate")
    (expected,) = torch.autograd.grad(preprocessor.forward(x)[0].square().sum(), x)
    for kind, gradient in (("true", expected), ("straight-through", None)):
        y = PreprocessorModule(preprocessor, gradient=kind)(x)
        (g,) = torch.autograd.grad(y.square().sum(), x)
        torch.testing.assert_close(g, 2 * y.detach() if gradient is None else gradient)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"an ART preprocessor.*got function"):
        PreprocessorModule(lambda x: x)
    with pytest.raises(ValueError, match="one of straight-through, got 'true'"):
        PreprocessorModule(JpegCompression(clip_values=(0, 1)), gradient="true")


def test_arts_own_by_name_get_the_channels_where_they_want_them(x):
    """TotalVarMin of ART takes the last axis for the channels, and cannot be told otherwise."""
    plain = x.detach()
    module = art_preprocessor("TotalVarMin", prob=0.5, max_iter=3, seed=1)
    first = module(plain)
    np.random.seed(int(torch.randint(0, 2**31, (2,), generator=Randomised(1).generator("cpu"))[0]))
    own = TotalVarMin(prob=0.5, max_iter=3, clip_values=(0, 1))
    expected = own(np.moveaxis(plain[:1].numpy(), 1, -1))[0]
    np.testing.assert_allclose(first[:1], np.moveaxis(expected, -1, 1), atol=1e-6)
    smoothed = art_preprocessor("SpatialSmoothing", window_size=3)(plain)
    torch.testing.assert_close(smoothed, filters.MedianSmoothing(3)(plain))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_preprocessed_in_single(x, dtype):
    module = art_preprocessor("SpatialSmoothing", window_size=3)
    half = x.detach().to(dtype)
    found = module(half)
    assert found.dtype == dtype
    assert torch.equal(found, module(half.float()).to(dtype))


def test_noise_takes_the_place_of_the_images_that_it_is_added_to(x):
    noisy = art_preprocessor("GaussianAugmentation", sigma=0.1)(x.detach())
    assert noisy.shape == x.shape
    assert 0.05 < (noisy - x.detach()).std() < 0.15
    with pytest.raises(ValueError, match=r"GaussianAugmentation to return as many.*got 4 for 2"):
        art_preprocessor("GaussianAugmentation", augmentation=True)(x.detach())


def test_random_ones_repeat_their_draws_and_leave_numpys_generator(x):
    module = art_preprocessor("TotalVarMin", max_iter=2)
    assert is_random(module)
    state = np.random.get_state()[1].copy()
    first, second = module(x), module(x)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    module.reset()
    again = module(x)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    (g,) = torch.autograd.grad(again.sum(), x)
    assert torch.equal(g, torch.ones_like(x))


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("JpegCompresion", {}, "nearest are JpegCompression"),
        ("JpegCompression", {"qualiti": 5}, "takes no qualiti: its parameters are quality"),
        ("FeatureSqueezing", {"bit_depth": 100}, "bit depth"),
    ],
)
def test_bad_names_and_parameters_are_refused(name, params, message):
    with pytest.raises(ValueError, match=message):
        art_preprocessor(name, **params)
