"""The side-by-side picture and its command."""

from __future__ import annotations

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from foolart.evaluation.magnify import (
    GAP,
    LINE,
    magnify_command,
    magnify_files,
    side_by_side,
)
from foolart.plugins.magnification import magnify

NAMES = ["a.png", "b.png", "c.png"]


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    original = rng.integers(60, 200, (40, 50, 3)).astype(np.uint8)
    return np.stack(
        [original, original + rng.integers(0, 9, (40, 50, 3)).astype(np.uint8), original]
    )


@pytest.fixture
def files(images, tmp_path):
    for name, image in zip(NAMES, images, strict=True):
        Image.fromarray(image).save(tmp_path / name)
    return [tmp_path / name for name in NAMES]


def panels(picture, images, factor):
    """The pixels of every panel [row][column], read back from the picture."""
    height, width = (factor * side for side in images.shape[1:3])
    pixels = np.asarray(picture)
    rows = 2 if len(images) == 1 else 3
    assert pixels.shape == (
        rows * (height + LINE) + GAP,
        GAP + len(images) * (width + GAP),
        3,
    )
    tops = [row * (height + LINE) + LINE for row in range(rows)]
    lefts = [GAP + column * (width + GAP) for column in range(len(images))]
    return [
        [pixels[top : top + height : factor, left : left + width : factor] for left in lefts]
        for top in tops
    ]


def test_the_picture_holds_images_magnified_images_and_perturbations(images):
    shown = panels(side_by_side(images, NAMES), images, factor=4)
    np.testing.assert_array_equal(shown[0], images)
    magnified = magnify(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    expected = np.rint(255 * np.clip(magnified / 4 + 0.5, 0, 1)).transpose(0, 2, 3, 1)
    assert np.abs(np.stack(shown[1]).astype(int) - expected).max() <= 1
    difference = images[1].astype(float) - images[0]
    np.testing.assert_allclose(shown[2][1], 255 * difference / 8, atol=0.5)
    assert (shown[2][0] == 255).all()
    assert (shown[2][2] == 128).all()


def test_grayscale_images_are_magnified_as_one_channel(images):
    gray = images[..., :1].repeat(3, -1)
    shown = panels(side_by_side(gray, NAMES), gray, factor=4)
    magnified = magnify(gray[..., 0][:, None].astype(np.float32) / 255)[:, 0]
    expected = np.rint(255 * np.clip(magnified / 4 + 0.5, 0, 1))
    assert np.abs(np.stack(shown[1])[..., 0].astype(int) - expected).max() <= 1


def test_files_are_read_and_written_whole(files, images, tmp_path):
    out = magnify_files(files[0], files[1:], tmp_path / "out.png")
    with Image.open(out) as picture:
        np.testing.assert_array_equal(panels(picture, images, 4)[0], images)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*NAMES, "out.png"]
    magnify_files(files[0], [], out)
    with Image.open(out) as picture:
        assert len(panels(picture, images[:1], 4)) == 2


def test_bad_files_are_refused(files, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no image")
    small = tmp_path / "small.png"
    Image.new("RGB", (8, 9)).save(small)
    for path, message in [
        (tmp_path / "none.png", "does not exist"),
        (text, "text.png cannot be read"),
        (small, "small.png is 8x9 pixels.*50x40"),
    ]:
        with pytest.raises(ValueError, match=message):
            magnify_files(files[0], [path], tmp_path / "out.png")
    for out in ("out", "out.txt"):
        with pytest.raises(ValueError, match="image format"):
            magnify_files(files[0], [], tmp_path / out)
    with pytest.raises(ValueError, match="beta"):
        magnify_files(files[0], [], tmp_path / "out.png", beta=2)
    with pytest.raises(OSError, match="none"):
        magnify_files(files[0], [], tmp_path / "none" / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_the_command(files, tmp_path):
    app = typer.Typer()
    app.command()(magnify_command)
    out = tmp_path / "out.png"
    result = CliRunner().invoke(app, [*map(str, files), "--out", str(out), "--beta", "0.5"])
    assert result.exit_code == 0, result.output
    assert str(out) in result.output
    assert out.is_file()
    assert CliRunner().invoke(app, [str(files[0])]).exit_code == 2
