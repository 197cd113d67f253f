"""The picture that shows what adversarial examples hide: magnified, beside their original."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from foolart.evaluation.files import Files
from foolart.evaluation.perception import mad
from foolart.plugins.mad import SMALLEST
from foolart.plugins.magnification import magnify

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.uint8]

# Magnified images are shown with this range of values as black to white.
SPAN = 2.0
PANEL = 224
GAP = 8
FONT = 13
LINE = 23


def magnify_files(
    original: Path,
    adversarials: Sequence[Path],
    out: Path,
    *,
    domain_sigma: float = 5.0,
    range_sigma: float = 0.2,
    beta: float = 0.8,
) -> Path:
    """Write the picture of :func:`side_by_side` for image files.

    Args:
        original: The original, or a single image of unknown origin.
        adversarials: Adversarial examples of the original, of the same size.
        out: The file to write; its suffix chooses the format (``.png`` keeps every pixel).
        domain_sigma: See :func:`foolart.plugins.magnification.magnify`.
        range_sigma: Likewise.
        beta: Likewise.

    Returns:
        ``out``.

    Raises:
        ValueError: For files that are missing, no 8-bit images or of different sizes, an unknown
            format, or parameters out of range.
        OSError: If the picture cannot be written.
    """
    from PIL import Image

    format_ = Image.registered_extensions().get(out.suffix.lower())
    if format_ not in Image.SAVE:
        raise ValueError(
            f"{out}: expected a name that ends in an image format, such as .png or .pdf"
        )
    paths = [original, *adversarials]
    images = [_read(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            (height, width), (h, w) = images[0].shape[:2], image.shape[:2]
            raise ValueError(
                f"image {path} is {w}x{h} pixels, but the original {original} is "
                f"{width}x{height}: adversarial examples have the size of their original"
            )
    picture = side_by_side(
        np.stack(images),
        [path.name for path in paths],
        domain_sigma=domain_sigma,
        range_sigma=range_sigma,
        beta=beta,
    )
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        picture.save(temporary, format=format_)
        os.replace(temporary, out)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return out


def side_by_side(
    images: Pixels,
    names: Sequence[str],
    *,
    domain_sigma: float = 5.0,
    range_sigma: float = 0.2,
    beta: float = 0.8,
) -> Image.Image:
    """Original and adversarial examples, a column each: image, magnified image, perturbation.

    Magnified images (eq. 22) are shown from -2, black, to 2, white, so that columns and pictures
    compare. Each perturbation is scaled to [0, 1] per channel. No image is interpolated: small ones
    are enlarged by a whole factor.

    Args:
        images: The original and its adversarial examples, uint8, ``(1 + N, H, W, 3)``.
        names: What to write over each.
        domain_sigma: See :func:`foolart.plugins.magnification.magnify`.
        range_sigma: Likewise.
        beta: Likewise.

    Returns:
        The picture, with the L2 distortion on the scale [0, 1] over each perturbation, and the MAD
        score where images are large enough for it.
    """
    from PIL import Image

    gray = bool((images == images[..., :1]).all())
    channels = images[..., :1] if gray else images
    x = np.ascontiguousarray(channels.transpose(0, 3, 1, 2), dtype=np.float32) / 255
    shown = magnify(x, domain_sigma=domain_sigma, range_sigma=range_sigma, beta=beta)
    magnified = _levels(shown.transpose(0, 2, 3, 1) / (2 * SPAN) + 0.5)

    height, width = images.shape[1:3]
    factor = max(1, PANEL // max(height, width))
    step_x, step_y = width * factor + GAP, height * factor + LINE
    rows = 2 if len(images) == 1 else 3
    size = GAP + len(images) * step_x, rows * step_y + GAP
    picture = Image.new("RGB", size, "white")
    for column, (name, image) in enumerate(zip(names, images, strict=True)):
        panels = [(name, image), (f"{name}, magnified", magnified[column])]
        if column:
            perturbation = _scaled(image.astype(int) - images[0])
            panels.append((f"perturbation: {_distortion(images[0], image)}", perturbation))
        for row, (caption, panel) in enumerate(panels):
            left, top = GAP + column * step_x, row * step_y
            _write(picture, (left, top + (LINE - FONT) // 2), caption, width * factor)
            picture.paste(_panel(panel, factor), (left, top + LINE))
    return picture


def magnify_command(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="The original, then its adversarial examples."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The picture to write, e.g. magnified.png.")
    ],
    beta: Annotated[
        float, typer.Option(help="Share of the local deviation, 0 to 1: larger magnifies more.")
    ] = 0.8,
    domain_sigma: Annotated[
        float, typer.Option(help="Width of the neighbourhood, in pixels.")
    ] = 5.0,
    range_sigma: Annotated[
        float, typer.Option(help="Distance of colours, on [0, 1], that counts as near.")
    ] = 0.2,
) -> None:
    """Magnify an image and its adversarial examples, side by side, with their perturbations."""
    written = magnify_files(
        images[0],
        images[1:],
        out,
        domain_sigma=domain_sigma,
        range_sigma=range_sigma,
        beta=beta,
    )
    typer.echo(f"wrote {written}")


def _read(path: Path) -> Pixels:
    if not path.is_file():
        raise ValueError(f"image {path} does not exist (working directory: {Path.cwd()})")
    pixels: Pixels = Files([path], np.zeros(1, np.int64)).images(0, 1)[0].transpose(1, 2, 0)
    return pixels


def _levels(values: Any) -> Pixels:
    levels: Pixels = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return levels


def _scaled(perturbation: npt.NDArray[np.int_]) -> Pixels:
    """Each channel from its smallest to its largest value; mid-gray where there is no change."""
    low, high = perturbation.min((0, 1)), perturbation.max((0, 1))
    return _levels(np.where(high > low, (perturbation - low) / np.maximum(high - low, 1), 0.5))


def _distortion(original: Pixels, image: Pixels) -> str:
    text = f"L2 {np.linalg.norm(image / 255 - original / 255):.3f}"
    if min(image.shape[:2]) >= SMALLEST:
        text += f", MAD {mad(original, image).score:.3f}"
    return text


def _panel(pixels: Pixels, factor: int) -> Image.Image:
    from PIL import Image

    enlarged = pixels.repeat(factor, 0).repeat(factor, 1)
    return Image.fromarray(np.broadcast_to(enlarged, (*enlarged.shape[:2], 3)).copy())


def _write(picture: Image.Image, place: tuple[int, int], text: str, width: int) -> None:
    """Write a caption, its end cut off where it is wider than its panel."""
    from PIL import ImageDraw, ImageFont

    font = ImageFont.load_default(FONT)
    draw = ImageDraw.Draw(picture)
    while draw.textlength(text, font) > width and len(text) > 1:
        text = text.rstrip("…")[:-1] + "…"
    draw.text(place, text, fill="black", font=font)
