"""Codebooks on disk: safetensors with their geometry, never pickle."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from foolart.plugins.codebook import ProductQuantizer, Shape

FORMAT = {"format": "foolart codebook", "version": "1"}


def save(codebook: ProductQuantizer, path: str | Path) -> None:
    """Write a codebook; a reader sees the old file or the new one, never a part. Folders are made.

    Raises:
        ImportError: If safetensors is missing.
        OSError: If the file cannot be written; nothing is left behind.
    """
    path = Path(path)
    depth, height, width = codebook.shape
    geometry = {"depth": depth, "height": height, "width": width}
    metadata = FORMAT | {name: str(n) for name, n in geometry.items()}
    metadata["universal"] = str(codebook.universal).lower()
    data = _safetensors("torch").save({"codewords": codebook.codewords.cpu()}, metadata=metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    # No file of tempfile's: those only their owner may read.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load(
    path: str | Path, *, shape: Shape | None = None, channels: int | None = None
) -> ProductQuantizer:
    """Read a codebook; see :meth:`ProductQuantizer.load`."""
    if not Path(path).is_file():
        raise ValueError(f"codebook {path} does not exist (working directory: {Path.cwd()})")
    try:
        with _safetensors().safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if {name: metadata.get(name) for name in FORMAT} != FORMAT:
                raise ValueError("its metadata are not those of a codebook")
            codewords = file.get_tensor("codewords")
        found = (int(metadata["depth"]), int(metadata["height"]), int(metadata["width"]))
        codebook = ProductQuantizer(codewords, found, universal=metadata["universal"] == "true")
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(
            f"codebook {path} is damaged or no codebook ({error}): learn it again with "
            "ProductQuantizer.fit(...).save(path)"
        ) from error
    if shape is not None and found != tuple(shape):
        raise ValueError(
            f"codebook {path} has patches of shape {found} (depth, height, width), expected {shape}"
        )
    if channels is not None and codebook.channels not in (None, channels):
        raise ValueError(
            f"codebook {path} serves maps of {codebook.channels} channels, expected {channels}"
        )
    return codebook


def _safetensors(module: str = "") -> Any:
    try:
        return import_module(f"safetensors.{module}" if module else "safetensors")
    except ImportError as error:
        raise ImportError(
            'reading and writing codebooks needs safetensors: pip install "foolart[patches]"'
        ) from error
