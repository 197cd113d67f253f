"""Views of images: where every pixel comes from, and how they are drawn."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from foolart.plugins.transformations import CORNERS, Transformations, view  # noqa: E402

IDENTITY = torch.eye(3)
ONE = torch.ones(())


def images(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def draw(count=400, **parameters):
    return Transformations(**parameters).draw(count, torch.Generator().manual_seed(0))


def where_corners_go(homographies):
    corners = torch.tensor([[x, y, 1.0] for x, y in CORNERS])
    moved = corners @ homographies.mT
    return moved[..., :2] / moved[..., 2:]


def test_the_identity_shows_the_image():
    x = images(2, 3, 8, 11)
    torch.testing.assert_close(view(x, IDENTITY, ONE), x)
    homographies, factors = draw(3)
    torch.testing.assert_close(homographies, IDENTITY.expand(3, 3, 3))
    assert (factors == 1).all()


def test_a_quarter_turn_turns_the_image():
    x = images(1, 3, 9, 9)
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(view(x, turn, ONE), torch.rot90(x, 1, (2, 3)))


def test_a_crop_shows_a_window():
    x = images(1, 1, 16, 16)
    half = torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.5, -0.5], [0.0, 0.0, 1.0]])
    seen = view(x, half, ONE)
    # Twice as large: the mean of 2x2 pixels of the view is near the pixel that it shows.
    shrunk = torch.nn.functional.avg_pool2d(seen, 2)
    assert (shrunk - x[:, :, :8, 8:])[..., 1:-1, 1:-1].abs().mean() < 0.25
    corner = seen[0, 0, 0, 15], x[0, 0, 0, 15]
    assert corner[0] == pytest.approx(corner[1].item(), abs=1e-6)


def test_brightness_scales_and_clips():
    x = images(1, 3, 4, 4)
    torch.testing.assert_close(view(x, IDENTITY, 2 * ONE), (2 * x).clamp(max=1))


def test_rotations_are_drawn_within_their_range():
    homographies, _ = draw(rotation=30)
    angles = torch.atan2(homographies[:, 1, 0], homographies[:, 0, 0])
    assert angles.abs().max() <= math.radians(30)
    assert angles.min() < -0.4 < 0.4 < angles.max()
    torch.testing.assert_close(torch.linalg.det(homographies[:, :2, :2]), torch.ones(400))


def test_crops_stay_inside_the_image():
    corners = where_corners_go(draw(crop=0.5)[0])
    assert corners.abs().max() <= 1 + 1e-6
    sides = corners[:, 1, 0] - corners[:, 0, 0]
    assert sides.min() >= 1 - 1e-6
    assert sides.min() < 1.1
    assert sides.max() > 1.9
    assert corners[:, 0].std() > 0.1


def test_perspective_moves_corners_inwards():
    corners = where_corners_go(draw(perspective=0.4)[0])
    share = corners / torch.tensor(CORNERS)
    assert share.max() <= 1 + 1e-5
    assert share.min() >= 0.6 - 1e-5
    assert share.std(0).min() > 0.05


def test_views_are_reproducible_and_differentiable():
    first, second = draw(3, rotation=9, brightness=0.2), draw(3, rotation=9, brightness=0.2)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    x = images(2, 1, 5, 5).double().requires_grad_()
    homography, factor = first[0][0].double(), torch.tensor(0.9).double()
    assert torch.autograd.gradcheck(lambda z: view(z, homography, factor), (x,))


def test_every_step_has_views_of_its_own():
    like = torch.zeros(1, dtype=torch.float64)
    steps = list(Transformations(crop=0.3).batches(4, 2, torch.Generator().manual_seed(0), like))
    assert [len(views) for views in steps] == [2] * 4
    homographies = torch.stack([h for views in steps for h, _ in views])
    assert homographies.dtype == torch.float64
    assert len(homographies.flatten(1).unique(dim=0)) == 8
    assert list(Transformations().batches(2, 3, torch.Generator(), like)) == [[], []]


@pytest.mark.parametrize(
    ("name", "value"),
    [("brightness", 1.0), ("crop", -0.1), ("rotation", 180), ("perspective", float("nan"))],
)
def test_parameters_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} to be in"):
        Transformations(**{name: value})
