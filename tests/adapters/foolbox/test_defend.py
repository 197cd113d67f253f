import eagerpy as ep
import foolbox
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from foolart.adapters.foolbox.defended_model import defend  # noqa: E402
from foolart.plugins.codebook import ProductQuantizer  # noqa: E402
from foolart.plugins.filters import BitDepthReduction, GaussianNoise, MedianSmoothing  # noqa: E402
from foolart.plugins.patches import PatchReplacer  # noqa: E402


@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1), (0, 255)])
def test_the_defence_sees_images_from_0_to_1(digits, bounds):
    model = defend(digits.model(bounds), MedianSmoothing(3))
    x = digits.images_in(bounds)
    expected = digits.net(MedianSmoothing(3)(digits.images))
    torch.testing.assert_close(model(x), expected, atol=1e-4, rtol=1e-4)
    assert tuple(model.bounds) == bounds
    assert model.data_format == "channels_first"
    assert isinstance(model(ep.astensor(x)), ep.Tensor)


def test_layers_are_defended_in_a_copy(digits):
    images, plain = digits.images, digits.model((-1, 1))
    before = plain(digits.images_in((-1, 1)))
    defence = {"input": BitDepthReduction(2), "1": BitDepthReduction(2), "4": MedianSmoothing(1)}
    del defence["4"]
    model = defend(plain, defence)
    step = digits.net[1](digits.net[0](BitDepthReduction(2)(images)))
    expected = digits.net[2:](BitDepthReduction(2)(step))
    torch.testing.assert_close(model(digits.images_in((-1, 1))), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(plain(digits.images_in((-1, 1))), before)
    kinds = [type(module) for module in model.defence.modules()]
    assert kinds.count(BitDepthReduction) == 2


def test_attacks_see_the_defence_and_its_gradient(digits):
    images, labels = digits.images, digits.labels
    book = ProductQuantizer.fit(images, 60, patch=2, stride=2, method="sample")
    blind = defend(digits.model(), PatchReplacer(book, gradient="true"))
    seeing = defend(digits.model(), PatchReplacer(book))
    right = seeing(images).argmax(1) == labels
    assert right.float().mean() > 0.6
    attack = foolbox.attacks.L2PGD(steps=20, rel_stepsize=0.2, random_start=False)
    success = {
        name: attack(model, images, labels, epsilons=3.0)[2][right].float().mean()
        for name, model in (("blind", blind), ("seeing", seeing))
    }
    assert success["blind"] == 0
    assert success["seeing"] > 0.9


def test_the_defence_is_at_hand(digits):
    noise = GaussianNoise(0.1)
    model = defend(digits.model(), noise)
    first = model(digits.images)
    assert not torch.equal(model(digits.images), first)
    next(iter(model.defence)).reset()
    assert torch.equal(model(digits.images), first)
    assert noise.draw == 1


def test_wrapped_twice(digits):
    inner = defend(digits.model(), BitDepthReduction(1))
    outer = defend(inner, MedianSmoothing(3))
    expected = digits.net(BitDepthReduction(1)(MedianSmoothing(3)(digits.images)))
    torch.testing.assert_close(outer(digits.images), expected)


def test_bad_input_is_refused(digits):
    model = digits.model()
    with pytest.raises(ValueError, match=r"the nearest are.*'3'"):
        defend(model, {"33": MedianSmoothing(3)})
    with pytest.raises(
        ValueError, match=r"defence of 'input' to be a torch.nn.Module.*got function"
    ):
        defend(model, lambda x: x)
    with pytest.raises(ValueError, match=r"foolbox.PyTorchModel.*got DefendedModel"):
        defend(defend(model, MedianSmoothing(3)), {"0": MedianSmoothing(3)})
    with pytest.raises(ValueError, match="PyTorch tensors, got NumPyTensor"):
        defend(model, MedianSmoothing(3))(np.zeros((1, 1, 8, 8), dtype=np.float32))
