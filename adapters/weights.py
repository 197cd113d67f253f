"""Weights on disk: safetensors, or NumPy archives without pickle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Load weights into a network.

    Args:
        network: The network; its shapes are what the file must have.
        path: A ``.safetensors`` or ``.npz`` file with the names of the network's state. Arrays
            named ``LAYER_weight`` and ``LAYER_bias`` are read as TensorFlow lays them out:
            convolutions (height, width, in, out), dense layers (in, out) after channels-last maps.

    Raises:
        ValueError: If there is no such file, it cannot be read, or it does not fit.
        ImportError: For a ``.safetensors`` file without safetensors.
    """
    tensors = read_tensors(Path(path))
    state = network.state_dict()
    # A single layer's own names have no dots either.
    if all("." not in name for name in tensors) and not set(tensors) & set(state):
        tensors = _from_tensorflow(tensors)
    # A counter of batches that inference does not need, and NumPy archives often lack.
    wanted = {name for name in state if not name.endswith("num_batches_tracked")}
    missing, unknown = wanted - set(tensors), set(tensors) - set(state)
    wrong = [
        f"{name} is {tuple(tensors[name].shape)} instead of {tuple(state[name].shape)}"
        for name in sorted(wanted & set(tensors))
        if tensors[name].shape != state[name].shape
    ]
    problems = [
        *(f"{name} is missing" for name in sorted(missing)),
        *(f"{name} is unknown" for name in sorted(unknown)),
        *wrong,
    ]
    if problems:
        rest = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ValueError(
            f"weights {path} do not fit {type(network).__name__}: {'; '.join(problems[:3])}{rest}"
        )
    network.load_state_dict(tensors, strict=False)


def save_weights(network: nn.Module, path: str | Path) -> None:
    """Write the weights of a network as safetensors, atomically.

    Raises:
        ImportError: Without safetensors.
        OSError: If the file cannot be written.
    """
    write_tensors(dict(network.state_dict()), Path(path))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The arrays of a ``.safetensors`` or ``.npz`` file, by name.

    Raises:
        ValueError: If there is no such file, or it cannot be read.
        ImportError: For a ``.safetensors`` file without safetensors.
    """
    if not path.is_file():
        raise ValueError(f"file {path} does not exist (working directory: {Path.cwd()})")
    if path.suffix not in (".safetensors", ".npz"):
        raise ValueError(f"file {path}: expected .safetensors or .npz, got {path.suffix!r}")
    try:
        if path.suffix == ".safetensors":
            loaded: dict[str, torch.Tensor] = _safetensors().load_file(str(path))
            return loaded
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    except ImportError:
        raise
    except Exception as error:
        raise ValueError(f"file {path} cannot be read: {error}") from error


def read_metadata(path: Path) -> dict[str, str]:
    """The texts that :func:`write_tensors` wrote beside the arrays.

    Raises:
        ImportError: Without safetensors.
    """
    _safetensors()
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        return dict(file.metadata() or {})


def write_tensors(
    tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays as safetensors: a reader sees the old file or the new one, never a part.

    Raises:
        ImportError: Without safetensors.
        OSError: If the file cannot be written.
    """
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_bytes(_safetensors().save(whole, metadata=dict(metadata or {})), path)


def write_bytes(data: bytes, path: Path) -> None:
    """Write a file by renaming a complete one to its place; folders are made.

    Raises:
        OSError: If the file cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _from_tensorflow(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    channels = 1
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition("_")
        if tensor.ndim == 4:
            channels = tensor.shape[3]
            tensor = tensor.permute(3, 2, 0, 1)
        elif tensor.ndim == 2:
            # Rows run over (row, column, channel) of the last map, in PyTorch over (channel, ...).
            pixels = len(tensor) // channels
            tensor = tensor.reshape(pixels, channels, -1).permute(2, 1, 0).flatten(1)
        found[f"{layer}.{kind}"] = tensor.contiguous()
    return found


def _safetensors() -> Any:
    try:
        from safetensors import torch as safetensors_torch
    except ImportError as error:
        raise ImportError(
            f'.safetensors files need safetensors: pip install "foolart[eval]" ({error})'
        ) from error
    return safetensors_torch
