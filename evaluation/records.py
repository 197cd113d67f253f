"""What a run keeps of every image: the one table that all metrics and reports are computed from."""

from __future__ import annotations

from dataclasses import dataclass

VARIANTS = ("raw", "rounded", "lagrangian")


@dataclass(frozen=True)
class Record:
    """One image under one comparison; a row of ``per_image.csv``.

    Attributes:
        model: Name of the model under attack.
        attack: Name of the attack, with its parameters where they differ from the defaults.
        variant: How the adversarial was brought to 8 bits: one of ``VARIANTS``.
        defence: Name of the defence around the model, empty for none.
        threat: Threat model of this row, such as ``white-box``, ``transfer`` or ``bpda``.
        seed: The run's seed; random numbers derive from it and from ``image_hash``.
        image: Row index of the image in its data set.
        image_hash: Hash of the image's pixels and label.
        label: The true class.
        clean_prediction: The class that the model gives to the original.
        correct: Whether ``clean_prediction`` is the label: only these rows count in P_suc.
        prediction: The class that the model gives to the final adversarial, re-read after the
            variant was applied.
        success: Whether that is adversarial, judged on exactly the stored pixels.
        distance: L2 distance to the original with inputs scaled to [0, 1]; NaN without success.
        distance_linf: L_inf distance on the same scale; NaN without success.
        forwards: Forward passes spent on this image, those of the variant included.
        backwards: Backward passes spent on this image.
        flags: Reasons not to trust the row, separated by semicolons; empty if none.
    """

    model: str
    attack: str
    variant: str
    defence: str
    threat: str
    seed: int
    image: int
    image_hash: str
    label: int
    clean_prediction: int
    correct: bool
    prediction: int
    success: bool
    distance: float
    distance_linf: float
    forwards: int
    backwards: int
    flags: str = ""
