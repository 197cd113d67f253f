import importlib.util

import pytest
import torch

from foolart.plugins import nearest as module
from foolart.plugins.nearest import nearest, neighbours

PATHS = ["torch", "faiss"]


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    if request.param == "faiss":
        pytest.importorskip("faiss")
    monkeypatch.setattr(module, "has_faiss", lambda: request.param == "faiss")
    return request.param


def excess(points, codewords, index):
    """How much farther the codeword found is than the nearest, in float64 and squared."""
    points, codewords = points.double(), codewords.double()
    smallest = torch.cdist(points, codewords, compute_mode="donot_use_mm_for_euclid_dist")
    found = (points - codewords[index]).square().sum(1)
    return (found - smallest.min(1).values.square()).max().item()


def image_like(n, dimensions, seed):
    """Patches: one strong component, their brightness, and small differences."""
    generator = torch.Generator().manual_seed(seed)
    brightness = torch.rand(n, 1, generator=generator)
    detail = torch.randn(n, dimensions, generator=generator)
    return (brightness + 0.03 * detail).clamp(0, 1)


@pytest.mark.parametrize(("n", "k", "d"), [(1, 1, 1), (7, 3, 9), (1500, 2500, 9), (600, 5000, 36)])
def test_the_codeword_found_is_the_nearest(path, n, k, d):
    points, codewords = image_like(n, d, 0), image_like(k, d, 1)
    assert excess(points, codewords, nearest(points, codewords)) <= 1e-5


@pytest.mark.parametrize("spread", [0.01, 1.0])
def test_windows_are_exact_where_they_help_and_where_they_do_not(spread):
    # Without a strong axis no window suffices, and every point passes through the whole codebook.
    generator = torch.Generator().manual_seed(0)
    points, codewords = torch.randn(2, 3000, 6, generator=generator)
    points, codewords = points.clone(), codewords.clone()
    points[:, 1:] *= spread
    codewords[:, 1:] *= spread
    assert excess(points, codewords, module._windowed(points, codewords)) <= 1e-5


def test_windows_are_exact_far_outside_the_codebook():
    codewords = image_like(2500, 4, 0)
    points = torch.cat([image_like(300, 4, 1) - 50, image_like(300, 4, 2) + 50])
    assert excess(points, codewords, module._windowed(points, codewords)) <= 1e-2  # of 10,000


def test_equal_codewords_do_no_harm(path):
    codewords = torch.ones(3000, 3)
    codewords[1000:] = 2
    points = torch.tensor([[1.1, 1.0, 1.0], [1.9, 2.0, 2.0]]).repeat(400, 1)
    found = codewords[nearest(points, codewords)]
    assert torch.equal(found, torch.tensor([[1.0] * 3, [2.0] * 3]).repeat(400, 1))


def test_no_points_at_all(path):
    assert nearest(torch.zeros(0, 4), torch.rand(5, 4)).shape == (0,)
    assert neighbours(torch.zeros(0, 4), torch.rand(5, 4), 3).shape == (0, 3)


def test_neighbours_come_nearest_first(path):
    points, codewords = image_like(50, 9, 0), image_like(400, 9, 1)
    distance = torch.cdist(points.double(), codewords.double()).square()
    found = distance.gather(1, neighbours(points, codewords, 7))
    torch.testing.assert_close(found, distance.sort(1).values[:, :7], atol=1e-6, rtol=0)


def test_neighbours_are_at_most_the_codebook(path):
    assert neighbours(torch.rand(4, 2), torch.rand(3, 2), 16).shape == (4, 3)


def test_the_setting_of_faiss_is_restored():
    faiss = pytest.importorskip("faiss")
    before = faiss.cvar.distance_compute_blas_threshold
    nearest(torch.rand(4, 2), torch.rand(3, 2))
    with pytest.raises(AssertionError):
        nearest(torch.rand(4, 2), torch.rand(3, 5))
    assert faiss.cvar.distance_compute_blas_threshold == before


def test_has_faiss_says_whether_it_is_installed():
    assert module.has_faiss() == (importlib.util.find_spec("faiss") is not None)
