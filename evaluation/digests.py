"""Hashes of models: what they hold, whatever it is called."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

import torch

from foolart.adapters.foolbox.defended_model import network_of


def foolbox_digest(model: Any, key: str) -> str:
    """Hash of a Foolbox model: its bounds, its preprocessing, and its network if there is one."""
    key = f"{key} {tuple(model.bounds)} {getattr(model, '_preprocess_args', None)}"
    with contextlib.suppress(ValueError):
        model = network_of(model)
    return state_digest(model, key)


def state_digest(model: Any, key: str) -> str:
    """Hash of a module's parameters and buffers, if it has any, and of a text."""
    digest = hashlib.sha256(key.encode())
    state = model.state_dict() if hasattr(model, "state_dict") else {}
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
