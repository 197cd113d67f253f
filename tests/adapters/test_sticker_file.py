"""Stickers on disk."""

from __future__ import annotations

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
Image = pytest.importorskip("PIL.Image")

from foolart.adapters.sticker_file import load_sticker, save_sticker  # noqa: E402
from foolart.adapters.weights import write_tensors  # noqa: E402
from foolart.plugins.sticker import Sticker  # noqa: E402


def sticker(count=1, compose="replace", channels=3):
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(1, 1, 6, 5)
    mask[..., 1:4, 2:] = 1
    return Sticker(torch.rand(count, channels, 6, 5, generator=generator), mask, compose)


X = torch.rand(3, 3, 6, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("count", "compose"), [(1, "add"), (3, "replace")])
def test_safetensors_keep_everything(tmp_path, count, compose):
    saved = sticker(count, compose)
    save_sticker(saved, tmp_path / "s.safetensors")
    loaded = load_sticker(str(tmp_path / "s.safetensors"))
    assert loaded.compose == compose
    assert torch.equal(loaded(X), saved(X))


def test_a_printed_sticker_keeps_its_8_bit_colours(tmp_path):
    saved = sticker()
    path = tmp_path / "s.png"
    save_sticker(saved, path)
    loaded = load_sticker(path)
    assert loaded.compose == "replace"
    assert torch.equal(loaded.mask, saved.mask)
    assert (loaded(X) - saved(X)).abs().max() <= 0.5 / 255 + 1e-6
    with Image.open(path) as file:
        assert file.mode == "RGBA"
        assert np.asarray(file)[..., 3].tolist() == (255 * saved.mask[0, 0]).int().tolist()
    save_sticker(loaded, path)
    assert torch.equal(load_sticker(path).delta, loaded.delta)


def test_gray_stickers_are_printed_gray(tmp_path):
    save_sticker(sticker(channels=1), tmp_path / "s.png")
    loaded = load_sticker(tmp_path / "s.png")
    assert loaded.delta.shape == (1, 1, 6, 5)
    composed = loaded(X)
    assert torch.equal(composed[:, 0, 2, 3], composed[:, 2, 2, 3])


def test_what_cannot_be_printed_is_refused(tmp_path):
    one = sticker()
    masks = torch.cat([one.mask, 1 - one.mask])
    for bad in (sticker(compose="add"), sticker(count=3), Sticker(one.delta, masks, "replace")):
        with pytest.raises(ValueError, match=r"sticker.printed\(photographs\)"):
            save_sticker(bad, tmp_path / "s.png")
    with pytest.raises(ValueError, match=r"expected .safetensors or .png, got '.jpg'"):
        save_sticker(sticker(), tmp_path / "s.jpg")
    assert list(tmp_path.iterdir()) == []


def test_files_that_hold_no_sticker_are_refused(tmp_path):
    for name in ("none.png", "none.safetensors"):
        with pytest.raises(ValueError, match="does not exist"):
            load_sticker(tmp_path / name)
    Image.new("RGB", (4, 4)).save(tmp_path / "photo.png")
    (tmp_path / "text.png").write_text("no image")
    write_tensors({"delta": X}, tmp_path / "other.safetensors")
    for name, message in [
        ("photo.png", "no opacity"),
        ("text.png", "cannot be read"),
        ("other.safetensors", "holds no sticker"),
    ]:
        with pytest.raises(ValueError, match=message):
            load_sticker(tmp_path / name)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"foolart\[eval\]"):
        save_sticker(sticker(), tmp_path / "s.png")
