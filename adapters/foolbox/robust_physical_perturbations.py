"""RP2: one sticker that fools a classifier on many photographs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import eagerpy as ep
import torch
from foolbox.attacks.base import raise_if_kwargs
from foolbox.distances import l2
from foolbox.models import Model

from foolart.plugins.low_frequency import LowFrequencies
from foolart.plugins.printability import printable_palette
from foolart.plugins.rp2 import Best, Objective
from foolart.plugins.sticker import COMPOSE, Sticker, as_mask, strongest
from foolart.plugins.transformations import Transformations

from .photographs import check_classes_exist, cross_entropy, photographs, with_sticker
from .problem import CheckedMinimizationAttack, Problem
from .stumbles import is_tensor

T = TypeVar("T")


class RobustPhysicalPerturbationsAttack(CheckedMinimizationAttack):
    """The sticker attack RP2: Adam on eq. (2) of BlurNet, under a mask. [#Eykh18]_ [#Raju20]_

    The mask comes with the call: ``attack(model, images, criterion, epsilons=None, mask=mask)``,
    ``(H, W)``, ``(1, H, W)`` or ``(N, 1, H, W)``; no pixel outside it changes. The photographs
    of a call show one object and share one sticker, which :meth:`sticker` returns; results are
    therefore those of the set of images, unless ``shared=False``. Images that it does not fool, and
    images that are adversarial already, come back unchanged.

    Lengths and colours are on the scale [0, 1] whatever the bounds. One forward and one backward
    pass a step, image and sample, and one more forward pass for the last iterate. PyTorch only.

    Deviations from the paper: the sticker that fools most views at the least loss is returned, not
    the last one; of an opaque sticker (``compose="replace"``) the norm is that of the change that
    it makes, and its colours stay in [0, 1].

    Args:
        steps: Number of steps, of each stage and restart.
        stepsize: Adam's learning rate.
        lam: lambda, the weight of the perturbation's norm; BlurNet uses 0.002.
        norm: p of that norm, 1 or 2.
        shared: One sticker for all images, or one for each.
        compose: ``"add"`` the perturbation, or ``"replace"`` what is under the mask.
        printable_colours: RGB triplets in [0, 1] ``(K, 3)`` whose non-printability score joins the
            loss; None leaves it out.
        low_frequencies: How many DCT frequencies of each axis the perturbation may have before it
            is masked; None for all.
        transformations: Distribution of views over which the loss is averaged; None for the
            photographs as they are, which RP2 takes as the expectation.
        samples: Views drawn in each step, the same for all images.
        mask_share: If given, the mask is found in two stages: under the L1 norm in the whole mask,
            then under ``norm`` in that share of its pixels that changed most.
        extra_loss: A loss ``(N,)`` of the composed images, native tensors in the model's bounds, to
            add to each image's, such as the regulariser of a defence.
        restarts: Number of random starts, the best of which is returned.
        seed: Seed of everything random.
        batch_size: Images in a pass, to save memory; changes nothing else.

    Raises:
        ValueError: If a parameter is out of range, or inputs, mask, labels or model do not fit.
        TypeError: If the model is not one of PyTorch.

    References:
        .. [#Eykh18] Kevin Eykholt et al., "Robust physical-world attacks on deep learning visual
            classification", CVPR 2018, https://arxiv.org/abs/1707.08945.
        .. [#Raju20] Ravi S. Raju, Mikko Lipasti, "BlurNet: defense by filtering the feature maps",
            DSN-W 2020, https://arxiv.org/abs/1908.02256.
    """

    distance = l2

    def __init__(
        self,
        *,
        steps: int = 300,
        stepsize: float = 0.1,
        lam: float = 0.02,
        norm: int = 2,
        shared: bool = True,
        compose: str = "add",
        printable_colours: Any = None,
        low_frequencies: int | None = None,
        transformations: Transformations | None = None,
        samples: int = 1,
        mask_share: float | None = None,
        extra_loss: Callable[[Any], Any] | None = None,
        restarts: int = 1,
        seed: int = 0,
        batch_size: int | None = None,
    ):
        counts = {"steps": steps, "samples": samples, "restarts": restarts}
        sizes = {"low_frequencies": low_frequencies, "batch_size": batch_size}
        for name, count in (counts | sizes).items():
            if count is not None and count < 1:
                raise ValueError(f"expected {name} >= 1, got {count!r}")
        if not (stepsize > 0 and math.isfinite(stepsize)):
            raise ValueError(f"expected stepsize > 0 and finite, got {stepsize!r}")
        if not (lam >= 0 and math.isfinite(lam)):
            raise ValueError(f"expected lam >= 0 and finite, got {lam!r}")
        if norm not in (1, 2):
            raise ValueError(f"expected norm to be 1 or 2, got {norm!r}")
        if compose not in COMPOSE:
            raise ValueError(f"expected compose to be one of {COMPOSE}, got {compose!r}")
        if mask_share is not None and not 0 < mask_share <= 1:
            raise ValueError(f"expected mask_share to be None or in (0, 1], got {mask_share!r}")
        if printable_colours is not None:
            printable_palette(printable_colours)
        if not isinstance(transformations, Transformations | None):
            raise ValueError(
                "expected transformations to be None or foolart.plugins.transformations."
                f"Transformations, got {transformations!r}"
            )
        self.steps = steps
        self.stepsize = stepsize
        self.lam = lam
        self.norm = norm
        self.shared = shared
        self.compose = compose
        self.printable_colours = printable_colours
        self.low_frequencies = low_frequencies
        self.transformations = transformations
        self.samples = samples
        self.mask_share = mask_share
        self.extra_loss = extra_loss
        self.restarts = restarts
        self.seed = seed
        self.batch_size = batch_size

    def run(
        self,
        model: Model,
        inputs: T,
        criterion: Any,
        *,
        mask: Any = None,
        early_stop: float | None = None,
        **kwargs: Any,
    ) -> T:
        """Run the attack; see :class:`foolbox.attacks.base.MinimizationAttack`."""
        raise_if_kwargs(kwargs)
        x, restore_type = ep.astensor_(inputs)
        problem = Problem.of(model, x, criterion)
        del inputs, criterion, early_stop, kwargs

        sticker = self._make(problem, mask)
        result: T = restore_type(with_sticker(problem, sticker, self.batch_size))
        return result

    def sticker(self, model: Model, inputs: Any, criterion: Any, *, mask: Any = None) -> Sticker:
        """The sticker that :meth:`run` puts on the images, on the scale [0, 1].

        Raises:
            ValueError: As :meth:`run`.
            TypeError: As :meth:`run`.
        """
        return self._make(Problem.of(model, ep.astensor(inputs), criterion), mask)

    def _make(self, problem: Problem, mask: Any) -> Sticker:
        x = photographs(problem)
        check_classes_exist(problem)
        where = as_mask(mask, x)
        if self.mask_share is not None:
            sparse = self._optimise(self._objective(problem, x, where, norm=1))
            where = strongest(sparse, x, self.mask_share)
        return self._optimise(self._objective(problem, x, where, self.norm))

    def _optimise(self, objective: Objective) -> Sticker:
        x = objective.x
        generator = torch.Generator().manual_seed(self.seed)
        transformations = self.transformations or Transformations()
        best = Best.none(x[:1] if self.shared else x)
        for _ in range(self.restarts):
            # The same start for all images: no result may depend on its neighbours.
            start = torch.rand((1, *x.shape[1:]), generator=generator).to(x)
            delta = start.expand_as(best.delta).clone()
            adam = torch.optim.Adam([delta], lr=self.stepsize)
            views = transformations.batches(self.steps + 1, self.samples, generator, x)
            for _ in range(self.steps):
                loss, fooled, delta.grad = objective.value_and_gradient(delta, next(views))
                best = best.where_better(delta, fooled, loss)
                adam.step()
                if self.compose == "replace":
                    delta.clamp_(0, 1)
            loss, fooled = objective(delta, next(views))
            best = best.where_better(delta, fooled, loss)
        return objective.sticker(best.delta)

    def _objective(
        self, problem: Problem, x: torch.Tensor, mask: torch.Tensor, norm: int
    ) -> Objective:
        box = problem.box(None)
        colours, keep = self.printable_colours, self.low_frequencies
        if colours is not None and x.shape[1] != 3:
            raise ValueError(
                f"expected RGB images for printable_colours, got {x.shape[1]} channels"
            )

        def extra(images: torch.Tensor) -> torch.Tensor:
            assert self.extra_loss is not None
            loss: torch.Tensor = self.extra_loss(box.decode(ep.astensor(images)).raw)
            if tuple(getattr(loss, "shape", ())) != (len(images),):
                raise ValueError(
                    f"expected extra_loss to return one loss an image, ({len(images)},), got "
                    f"{tuple(loss.shape) if is_tensor(loss) else type(loss).__name__}"
                )
            return loss

        return Objective(
            judge=cross_entropy(problem),
            x=x,
            mask=mask,
            compose=self.compose,
            lam=self.lam,
            norm=norm,
            palette=None if colours is None else printable_palette(colours).to(x),
            low=None if keep is None else LowFrequencies(x.shape[2], x.shape[3], keep),
            extra=None if self.extra_loss is None else extra,
            batch_size=self.batch_size,
        )
