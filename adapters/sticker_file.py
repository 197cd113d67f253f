"""Stickers on disk: exact as safetensors, to be printed as PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foolart.adapters.weights import read_tensors, write_bytes, write_tensors
from foolart.plugins.sticker import COMPOSE, Sticker


def save_sticker(sticker: Sticker, path: str | Path) -> None:
    """Write a sticker; a reader sees the old file or the new one, never a part.

    Args:
        sticker: The sticker.
        path: ``*.safetensors`` keeps it exactly; ``*.png`` is for printing, 8-bit colours with the
            mask as opacity.

    Raises:
        ValueError: For another kind of file, or a PNG of anything but a single opaque sticker.
        ImportError: If safetensors or Pillow is missing.
        OSError: If the file cannot be written.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        tensors = {"delta": sticker.delta, "mask": sticker.mask, sticker.compose: torch.zeros(0)}
        write_tensors(tensors, path)
    elif path.suffix == ".png":
        write_bytes(_png(sticker), path)
    else:
        raise ValueError(f"sticker {path}: expected .safetensors or .png, got {path.suffix!r}")


def load_sticker(path: str | Path) -> Sticker:
    """Read a sticker that :func:`save_sticker` wrote, or any PNG with opacity as an opaque one.

    Raises:
        ValueError: If there is no such file, or it holds no sticker.
        ImportError: If safetensors or Pillow is missing.
    """
    path = Path(path)
    if path.suffix == ".png":
        return _from_png(path)
    tensors = read_tensors(path)
    compose = [name for name in COMPOSE if name in tensors]
    if len(compose) != 1 or not {"delta", "mask"} <= set(tensors):
        raise ValueError(f"file {path} holds no sticker")
    return Sticker(tensors["delta"], tensors["mask"], compose[0])


def _png(sticker: Sticker) -> bytes:
    image = _pillow()
    if sticker.compose != "replace" or len(sticker.delta) != 1 or len(sticker.mask) != 1:
        raise ValueError(
            "expected a single opaque sticker to print, got one that is added to the image, or one "
            "for each image: make it by compose='replace', or print what it looks like on "
            "photographs, sticker.printed(photographs)"
        )
    colours = sticker.delta[0].clamp(0, 1).expand(3, -1, -1)
    pixels = torch.cat([colours, sticker.mask[0]]).mul(255).round().byte().permute(1, 2, 0)
    stream = io.BytesIO()
    image.fromarray(pixels.cpu().numpy()).save(stream, format="png")
    return stream.getvalue()


def _from_png(path: Path) -> Sticker:
    image = _pillow()
    if not path.is_file():
        raise ValueError(f"sticker {path} does not exist (working directory: {Path.cwd()})")
    try:
        with image.open(path) as file:
            if "A" not in file.getbands():
                raise ValueError("it has no opacity to tell the sticker from its surroundings")
            pixels = np.array(file.convert("RGBA"), dtype=np.float32) / 255
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"sticker {path} cannot be read: {error}") from error
    layers = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    colours, opacity = layers[:, :3], layers[:, 3:]
    # A gray sticker fits gray and colour photographs alike.
    gray = torch.equal(colours, colours[:, :1].expand_as(colours))
    return Sticker(colours[:, :1] if gray else colours, (opacity > 0.5).float(), "replace")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f'PNG files need Pillow: pip install "foolart[eval]" ({error})'
        ) from error
    return Image
