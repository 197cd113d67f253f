"""What an attack finds does not depend on how the images lie in memory."""

from __future__ import annotations

import foolbox
import pytest

from ...conformance.attacks import ATTACKS, epsilon

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def problem():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 9, 12), generator=generator).float() / 255
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.Softplus(), torch.nn.Flatten(), torch.nn.Linear(560, 5)
    )
    model = foolbox.PyTorchModel(network.eval().double(), bounds=(0, 1))
    images = images.double()
    return model, images, model(images).argmax(dim=1)


@pytest.mark.parametrize("name", ATTACKS)
def test_the_layout_of_the_images_does_not_matter(problem, name):
    model, images, labels = problem
    expected, _, success = ATTACKS[name](model, images, labels, epsilons=epsilon(name))
    assert success.any()
    for strided in (
        images.contiguous(memory_format=torch.channels_last),
        images.transpose(2, 3).contiguous().transpose(2, 3),
        torch.stack([images, images], dim=-1)[..., 0],
    ):
        assert not strided.is_contiguous()
        found, _, again = ATTACKS[name](model, strided, labels, epsilons=epsilon(name))
        assert torch.equal(again, success)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
