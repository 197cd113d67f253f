"""Native ART attacks and defences, and the bridge between the toolkits."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Where every public name lives: ART and the frameworks are imported when one is asked for.
_MODULES = {
    "art_attack": "from_art",
    "ArtModel": "bridge",
    "BoundaryProjection": "boundary_projection",
    "FoolboxAttack": "foolbox_attack",
    "LagrangianQuantization": "lagrangian_quantization",
    "QuantizedDDN": "quantized_ddn",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import art  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'{name} needs the Adversarial Robustness Toolbox: pip install "foolart[art]"'
        ) from error
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
