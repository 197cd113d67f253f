"""BlurNet against RP2: the paper's two tables, the attacks that know it, and stickers on paper.

python studies/blurnet.py --data FOLDER --out FOLDER [--full] [--only stickers,transfer,...]

--data holds gtsrb.npz (train_images, train_labels, test_images, test_labels; stop is class 14) and
stop_signs/ (victims_32/N.png, victims_256/N.png, masks/, lisa_cnn.npz; stop is class 14, the
attack's target 12).

Parts, in this order:
  stickers   LISA-CNN on its photographs, and RP2 on it with both masks
  transfer   table 1: these stickers before filtered copies of LISA-CNN
  aware      the same, with stickers of low frequencies, and with stickers made through the filters
  spectra    the share of high frequencies in the image and in feature maps (figures 1 to 3)
  printed    opaque stickers as PNG, on photographs that they never saw
  white-box  table 2: networks trained on GTSRB, stickers and unmasked attacks made for each

Every row is written to FOLDER/rows.json when it is known, and not computed again: an interrupted
run is gone on with, from the last epoch of a training. FOLDER/blurnet.md holds the tables. --full
is the paper's setting: 300 steps, all targets, 41 images, more seeds and networks.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from blurnet_report import report
from blurnet_white_box import FULL, STOP, Setting, table_2
from PIL import Image

from foolart.adapters.sticker_file import load_sticker, save_sticker
from foolart.adapters.weights import write_bytes
from foolart.evaluation.blurnet_tables import filtered, judge, sticker_for, transfer, white_box
from foolart.evaluation.networks import build
from foolart.evaluation.spectra import high_frequency_share
from foolart.plugins.blurnet import Blur
from foolart.plugins.features import feature_maps
from foolart.plugins.sticker import Sticker, as_mask

SPEED_LIMIT = 12
GOAL = {"label": STOP, "target": SPEED_LIMIT}
MASKS = {
    "octagon": "lisa_32_octagon.png",
    "rectangles": "lisa_32_mask_l1loss_uniform_rectangles.png",
}


class Rows:
    """What is known already, in a file that is whole at any time."""

    def __init__(self, path: Path, setting: Setting) -> None:
        self.path = path
        given = json.loads(json.dumps(asdict(setting)))
        self.known: dict[str, Any] = {"setting": given, "rows": {}}
        if path.is_file():
            self.known = json.loads(path.read_text())
        if self.known["setting"] != given:
            raise SystemExit(f"{path} is of another setting: choose another --out")

    def once(self, key: str, make: Callable[[], dict[str, Any]]) -> None:
        """Compute a row, unless it is there."""
        rows = self.known["rows"]
        if key in rows:
            return
        start = time.process_time()
        row = make()
        rows[key] = {**row, "cpu_seconds": round(time.process_time() - start, 1)}
        write_bytes(json.dumps(self.known, indent=1).encode(), self.path)
        print(f"{key}: {rows[key]['cpu_seconds']} s", flush=True)


class Signs:
    """LISA-CNN and its stop signs."""

    def __init__(self, folder: Path) -> None:
        files = sorted((folder / "victims_32").glob("*.png"), key=lambda path: int(path.stem))
        if not files:
            raise SystemExit(f"{folder / 'victims_32'} holds no photographs: see --help")
        self.x = torch.stack([pixels(file) for file in files])
        large = [folder / "victims_256" / file.name for file in files]
        self.large = torch.stack([pixels(file) for file in large])
        self.network = build("lisa-cnn", folder / "lisa_cnn.npz")
        with warnings.catch_warnings():
            # The published masks have a few stray values of 1 and 2.
            warnings.filterwarnings("ignore", "the mask is not binary")
            self.masks = {
                name: as_mask(pixels(folder / "masks" / file).amax(0), self.x)
                for name, file in MASKS.items()
            }


def pixels(file: Path) -> torch.Tensor:
    """An RGB image in [0, 1], channels first."""
    with Image.open(file) as image:
        array = np.array(image.convert("RGB"))
    return torch.from_numpy(array).permute(2, 0, 1).float() / 255


def save_pixels(image: torch.Tensor, file: Path) -> None:
    """Write an RGB image in [0, 1], channels first."""
    array = (255 * image).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(array).save(file)


def lisa_sticker(signs: Signs, mask: str, lam: float, out: Path) -> Sticker:
    """The sticker for all photographs under a mask, made now or before."""
    path = out / "stickers" / f"{mask}-{lam:g}.safetensors"
    if not path.is_file():
        made = sticker_for(signs.network, signs.x, signs.masks[mask], lam=lam, **GOAL)
        save_sticker(made, path)
    return load_sticker(path)


def stickers(rows: Rows, signs: Signs, out: Path) -> None:
    """The clean network; RP2 under both masks, with the lambdas of BlurNet and of RP2."""

    def clean() -> dict[str, Any]:
        with torch.no_grad():
            logits = signs.network(signs.x)
        losses = {
            str(label): F.cross_entropy(logits, torch.full((len(logits),), label)).item()
            for label in (STOP, SPEED_LIMIT)
        }
        return {"stop": int((logits.argmax(1) == STOP).sum()), "cross_entropy": losses}

    rows.once("LISA-CNN", clean)
    for mask in MASKS:
        for lam in (0.002, 0.02):

            def verdict(mask: str = mask, lam: float = lam) -> dict[str, Any]:
                sticker = lisa_sticker(signs, mask, lam, out)
                return asdict(judge(signs.network, signs.x, sticker(signs.x), **GOAL))

            rows.once(f"stickers | {mask} | lambda {lam:g}", verdict)


def table_1(rows: Rows, signs: Signs, out: Path) -> None:
    """Stickers of LISA-CNN before copies of it that blur."""
    layers = ("conv1", "relu1", "conv2", "relu2", "conv3")
    networks = filtered(signs.network, layers, (3, 5, 7))
    for mask in MASKS:

        def verdicts(mask: str = mask) -> dict[str, Any]:
            found = transfer(networks, signs.x, lisa_sticker(signs, mask, 0.002, out), **GOAL)
            return {name: asdict(verdict) for name, verdict in found.items()}

        rows.once(f"transfer | {mask}", verdicts)


def aware(rows: Rows, signs: Signs, out: Path) -> None:
    """Attackers who know of the filter, with the small mask."""
    networks, mask = filtered(signs.network, ("conv1",), (3, 5, 7)), signs.masks["rectangles"]

    def low() -> dict[str, Any]:
        sticker = sticker_for(signs.network, signs.x, mask, lam=0.002, low_frequencies=8, **GOAL)
        found = transfer(networks, signs.x, sticker, **GOAL)
        return {name: asdict(verdict) for name, verdict in found.items()}

    rows.once("low frequencies", low)
    for name, network in networks.items():
        rows.once(
            f"made for | {name}",
            lambda network=network: asdict(white_box(network, signs.x, mask, lam=0.002, **GOAL)),
        )
        rows.once(
            f"untargeted | {name}",
            lambda network=network: asdict(
                white_box(network, signs.x, mask, lam=0.002, label=STOP)
            ),
        )


def spectra(rows: Rows, signs: Signs, out: Path) -> None:
    """Where the energy of images, of what a sticker adds, and of feature maps lies."""

    def shares() -> dict[str, Any]:
        x, sticker = signs.x, lisa_sticker(signs, "rectangles", 0.002, out)
        # For `foolart spectra`.
        save_pixels(x[0], out / "clean.png")
        save_pixels(sticker(x)[0], out / "attacked.png")
        pairs = {"image": (x, sticker(x))}
        with torch.no_grad():
            for layer in ("conv1", "conv2"):
                maps = [feature_maps(signs.network, layer, images) for images in (x, sticker(x))]
                pairs[layer] = (maps[0], maps[1])
        return {
            where: {
                "clean": high_frequency_share(clean).mean(),
                "attacked": high_frequency_share(attacked).mean(),
                "added by the sticker": high_frequency_share(attacked - clean).mean(),
                "the same, blurred 5x5": high_frequency_share(Blur(5)(attacked - clean)).mean(),
            }
            for where, (clean, attacked) in pairs.items()
        }

    rows.once("spectra", shares)


def printed(rows: Rows, signs: Signs, out: Path) -> None:
    """Opaque stickers of each half of the photographs as PNG, on the other half."""
    halves = (slice(0, None, 2), slice(1, None, 2))
    for name, mask in signs.masks.items():

        def verdicts(name: str = name, mask: torch.Tensor = mask) -> dict[str, Any]:
            seen: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
            outside = []
            for number, (made, held) in enumerate((halves, halves[::-1])):
                x, others, large = signs.x[made], signs.x[held], signs.large[held]
                sticker = sticker_for(signs.network, x, mask, lam=0.0, compose="replace", **GOAL)
                path = out / f"sticker-{name}-{number}.png"
                save_sticker(sticker, path)
                loaded = load_sticker(path)
                poster = enlarged(loaded, large.shape[-1] // others.shape[-1])
                for where, pair in {
                    "own": (x, loaded(x)),
                    "held": (others, loaded(others)),
                    "held, not printed": (others, sticker(others)),
                    "held, 256x256": (shrunk(large), shrunk(poster(large))),
                }.items():
                    seen.setdefault(where, []).append(pair)
                changed = (loaded(others) - others).abs()
                outside.append(changed[(mask == 0).expand_as(others)].max().item())
            pairs = {where: map(torch.cat, zip(*v, strict=True)) for where, v in seen.items()}
            found = {where: asdict(judge(signs.network, *v, **GOAL)) for where, v in pairs.items()}
            return {**found, "largest_change_outside": max(outside)}

        rows.once(f"printed | {name}", verdicts)


def enlarged(sticker: Sticker, times: int) -> Sticker:
    """A sticker for larger photographs: every pixel becomes a square."""
    delta, mask = (
        part.repeat_interleave(times, 2).repeat_interleave(times, 3)
        for part in (sticker.delta, sticker.mask)
    )
    return Sticker(delta, mask, sticker.compose)


def shrunk(images: torch.Tensor) -> torch.Tensor:
    """Photographs as LISA-CNN takes them: every pixel the mean of a square."""
    return F.adaptive_avg_pool2d(images, 32)


PARTS = ("stickers", "transfer", "aware", "spectra", "printed", "white-box")


def main() -> None:
    """Compute what is missing, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--full", action="store_true", help="the paper's setting")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--blur-epochs", type=int, help="of networks that train a blur")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    only = arguments.only.split(",")
    if not set(only) <= set(PARTS):
        parser.error(f"--only {arguments.only}: expected names of {', '.join(PARTS)}")
    torch.set_num_threads(arguments.threads)
    setting = FULL if arguments.full else Setting()
    if arguments.blur_epochs is not None:
        setting = replace(setting, blur_epochs=arguments.blur_epochs)
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = Rows(arguments.out / "rows.json", setting)
    signs = Signs(arguments.data / "stop_signs")
    for name, part in zip(PARTS, (stickers, table_1, aware, spectra, printed), strict=False):
        if name in only:
            part(rows, signs, arguments.out)
    if "white-box" in only:
        mask = signs.masks["rectangles"]
        table_2(rows.once, mask, arguments.data / "gtsrb.npz", arguments.out, setting)
    text = report(rows.known)
    write_bytes(text.encode(), arguments.out / "blurnet.md")
    print(text)


if __name__ == "__main__":
    main()
