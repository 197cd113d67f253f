"""How our Foolbox attacks become ART attacks."""

from __future__ import annotations

from inspect import Parameter, Signature, signature
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from foolbox.attacks import Attack

from foolart.adapters.art.bridged import BridgedAttack

# The terms that ART's attacks share, where Foolbox has others.
_ART_TERMS = {"steps": "max_iter"}
_TYPES: dict[str, Any] = {
    "bool": np.bool_,
    "int": Integral,
    "float": Real,
    "str": str,
    "None": type(None),
}
_SHARED = signature(BridgedAttack).parameters


class NativeAttack(BridgedAttack):
    """The ART face of one of our Foolbox attacks.

    A subclass names the Foolbox attack, and has its parameters, defaults and checks, under its
    names, but for the terms that ART's attacks share: ``max_iter`` for ``steps`` and, where a
    subclass sets it, ``eps`` for ``epsilon``. ``targeted``, ``batch_size``, ``summary_writer`` and
    ``verbose`` follow. The classifier and an attack to wrap are positional, all others keywords.
    """

    foolbox_class: ClassVar[type[Attack]]
    _foolbox_names: ClassVar[dict[str, str]]

    def __init_subclass__(cls, **kwargs: Any):
        """Take the parameters over from the Foolbox attack."""
        super().__init_subclass__(**kwargs)
        theirs = [p for n, p in signature(cls.foolbox_class).parameters.items() if n not in _SHARED]
        own = [p.replace(name=_ART_TERMS.get(p.name, p.name)) for p in theirs]
        cls._foolbox_names = {p.name: q.name for p, q in zip(own, theirs, strict=True)}
        if "eps" in vars(cls):
            own.append(Parameter("eps", Parameter.KEYWORD_ONLY, default=cls.eps))
        cls.attack_params = [*BridgedAttack.attack_params, *(p.name for p in own)]
        first, *shared = _SHARED.values()
        cls.__signature__ = Signature([first, *own, *shared])

    def __init__(self, *args: Any, **kwargs: Any):
        arguments = self.__signature__.bind(*args, **kwargs)
        arguments.apply_defaults()
        own = {k: v for k, v in arguments.arguments.items() if k not in _SHARED}
        super().__init__(**{k: v for k, v in arguments.arguments.items() if k in _SHARED})
        for name, value in own.items():
            setattr(self, name, value)
        self._check_params()

    def foolbox_attack(self) -> Attack:
        """The Foolbox attack with the present parameters."""
        return self.foolbox_class(**self.foolbox_params())

    def foolbox_params(self) -> dict[str, Any]:
        """The present parameters of the Foolbox attack, by its names."""
        params = {theirs: getattr(self, own) for own, theirs in self._foolbox_names.items()}
        # Plain numbers: a NumPy scalar on the left of a tensor makes an array.
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in params.items()}

    def _check_params(self) -> None:
        for name, theirs in self._foolbox_names.items():
            annotation = str(signature(self.foolbox_class).parameters[theirs].annotation)
            _check_type(name, getattr(self, name), annotation)
        if getattr(self, "max_iter", 1) < 1:
            raise ValueError(f"expected max_iter >= 1, got {self.max_iter}")
        super()._check_params()


def _check_type(name: str, value: Any, annotation: str) -> None:
    accepted = annotation.split(" | ")
    if not set(accepted) <= set(_TYPES):
        return  # the attack's own business
    if isinstance(value, bool):
        fits = "bool" in accepted
    else:
        fits = any(isinstance(value, _TYPES[kind]) for kind in accepted)
    if not fits:
        raise ValueError(f"expected {name} to be of type {annotation}, got {value!r}")
