import numpy as np
import pytest

pytest.importorskip("art")
torch = pytest.importorskip("torch")

from art.defences.preprocessor import FeatureSqueezing, JpegCompression  # noqa: E402

from foolart.adapters.art.preprocessor_module import PreprocessorModule  # noqa: E402
from foolart.adapters.art.preprocessors import BitDepthReduction  # noqa: E402
from foolart.plugins import filters  # noqa: E402


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
