from __future__ import annotations

import eagerpy as ep
import foolbox
import numpy as np
import pytest

from foolart.adapters.foolbox.masked import Masked

torch = pytest.importorskip("torch")


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)).eval()
    return foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")


@pytest.fixture
def originals():
    return torch.rand(4, 3, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mask(originals):
    return torch.rand(originals.shape, generator=torch.Generator().manual_seed(2)) < 0.5


def test_looks_at_the_originals_where_the_mask_forbids_a_change(model, originals, mask):
    masked = Masked(model, originals, mask)
    inputs = torch.rand(originals.shape)
    composed = masked.compose(inputs)
    assert torch.equal(composed[mask], inputs[mask])
    assert torch.equal(composed[~mask], originals[~mask])
    assert torch.equal(masked(inputs), model(composed))
    gradient = ep.value_and_grad(lambda x: masked(x)[:, 0].sum(), ep.astensor(inputs))[1].numpy()
    expected = ep.value_and_grad(lambda x: model(x)[:, 0].sum(), ep.astensor(inputs))[1].numpy()
    np.testing.assert_array_equal(gradient, np.where(mask.numpy(), expected, 0))


def test_bounds_and_data_format(model, originals, mask):
    masked = Masked(model, originals, mask)
    assert masked.bounds == (0, 1)
    assert masked.data_format == "channels_first"


def test_one_original_serves_any_number_of_inputs(model, originals, mask):
    masked = Masked(model, originals[:1], mask[:1])
    assert masked(torch.rand(7, 3, 4)).shape == (7, 3)


def test_refuses_parts_of_a_batch(model, originals, mask):
    with pytest.raises(ValueError, match=r"expected 4 inputs.*got 2.*batches of one image"):
        Masked(model, originals, mask)(originals[:2])
