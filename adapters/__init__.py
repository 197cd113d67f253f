"""The toolkits' faces: native Foolbox attacks, native ART attacks and defences, and the bridge."""

from __future__ import annotations

from typing import Any

from foolart.adapters.registration import register, unregister

__all__ = ["ArtModel", "register", "unregister"]


def __getattr__(name: str) -> Any:
    if name == "ArtModel":
        from foolart.adapters.art import ArtModel

        return ArtModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
