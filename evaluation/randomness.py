"""Random numbers that belong to an image, not to its place in a batch."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode


def row_seed(seed: int, image_hash: str) -> int:
    """The seed of one image in one run: 63 bits of a hash of both."""
    digest = hashlib.sha256(f"{seed}:{image_hash}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@contextmanager
def seeded_rows(seed: int, seeds: Sequence[int]) -> Iterator[None]:
    """Give every row of a batch its own stream of random numbers, while the context lasts.

    Torch's sampling functions that draw a tensor with one row for each seed (``torch.rand``,
    ``randn``, ``randint``, their ``_like`` and in-place forms, and thereby eagerpy's) fill row i
    from a generator of ``seeds[i]`` alone, so that neither the other rows nor the row's place
    change its numbers. Draws of any other shape come from ``seed``, the same for every batch. The
    global generators of torch, NumPy and Python start from ``seed`` too, or from the row's own seed
    in a batch of one, and are put back in the end.

    Args:
        seed: The run's seed.
        seeds: One seed for each row, from :func:`row_seed`.
    """
    start = seeds[0] if len(seeds) == 1 else seed
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        torch.manual_seed(start)
        np.random.seed(start % 2**32)
        random.seed(start)
        with _RowStreams(start, seeds):
            yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


class _RowStreams(TorchFunctionMode):
    def __init__(self, shared: int, seeds: Sequence[int]) -> None:
        super().__init__()
        self.shared, self.seeds = shared, list(seeds)
        # One set of streams for torch's default generator, and one for each explicit generator,
        # named by the seed it was made with.
        self.streams: dict[tuple[str, int | None], list[torch.Generator]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        fill = _FILLS.get(func)
        if fill is None:
            return func(*args, **kwargs)
        # The innermost context draws alone: one around it could take a row's channels for its rows.
        with torch._C.DisableTorchFunction():
            blank, draw = fill(func, args, kwargs)
            generator = kwargs.get("generator")
            if blank.ndim == 0 or len(blank) != len(self.seeds):
                return func(*args, **kwargs)
            with torch.no_grad():
                for row, stream in zip(blank, self._rows(blank.device, generator), strict=True):
                    draw(row, stream)
            return blank

    def _rows(
        self, device: torch.device, generator: torch.Generator | None
    ) -> list[torch.Generator]:
        name = None if generator is None else generator.initial_seed()
        key = (str(device), name)
        if key not in self.streams:
            mixed = [s if name is None else row_seed(name, str(s)) for s in self.seeds]
            self.streams[key] = [torch.Generator(device).manual_seed(s) for s in mixed]
        return self.streams[key]


# For each sampling function: a tensor of the shape it would return, and how to draw one row of it.
# The tensor is drawn by the function itself, which also leaves every check of the arguments to it;
# its numbers are overwritten.


def _uniform(func: Any, args: Any, kwargs: Any) -> Any:
    return func(*args, **kwargs), lambda row, stream: row.uniform_(generator=stream)


def _normal(func: Any, args: Any, kwargs: Any) -> Any:
    return func(*args, **kwargs), lambda row, stream: row.normal_(generator=stream)


def _integers(func: Any, args: Any, kwargs: Any) -> Any:
    bounds = [a for a in args if isinstance(a, int)]
    high = kwargs.get("high", bounds[-1] if bounds else None)
    low = kwargs.get("low", bounds[0] if len(bounds) > 1 else 0)
    return func(*args, **kwargs), lambda row, stream: row.random_(low, high, generator=stream)


def _in_place(func: Any, args: Any, kwargs: Any) -> Any:
    rest = {name: value for name, value in kwargs.items() if name != "generator"}
    return args[0], lambda row, stream: func(row, *args[1:], **rest, generator=stream)


_FILLS = {
    torch.rand: _uniform,
    torch.rand_like: _uniform,
    torch.randn: _normal,
    torch.randn_like: _normal,
    torch.randint: _integers,
    torch.randint_like: _integers,
    torch.Tensor.uniform_: _in_place,
    torch.Tensor.normal_: _in_place,
    torch.Tensor.random_: _in_place,
    torch.Tensor.bernoulli_: _in_place,
}
