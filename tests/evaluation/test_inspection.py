import json

import foolbox
import pytest

torch = pytest.importorskip("torch")

from foolart.adapters.foolbox.defended_model import defend  # noqa: E402
from foolart.evaluation.inspection import activations, inspect_layers, outline  # noqa: E402
from foolart.plugins.filters import BitDepthReduction, GaussianNoise  # noqa: E402


class Scale(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def batches(digits, size=5):
    return zip(digits.images.split(size), digits.labels.split(size), strict=True)


def test_the_distortion_is_that_of_each_layer(digits):
    def half(x, labels):
        return x / 2

    found = inspect_layers(
        digits.model(), batches(digits), {"half": half}, layers=["input", "0", "3", "output"]
    )
    assert found.layers == ("input", "0", "3", "output")
    assert found.images == len(digits.images)
    net = digits.net
    steps = {"input": lambda x: x, "0": net[0], "3": net[:4], "output": net}
    for k, step in enumerate(steps.values()):
        clean, changed = (step(x).flatten(1) for x in (digits.images, digits.images / 2))
        expected = ((changed - clean).norm(dim=1) / clean.norm(dim=1)).mean()
        assert found.distortion["half"][k] == pytest.approx(expected.item(), rel=1e-5)
    assert found.distortion["half"][0] == pytest.approx(0.5)


def test_entropy_and_accuracy_are_those_of_the_predictions(digits):
    def wrong(x, labels):
        return 1 - x

    found = inspect_layers(digits.model(), batches(digits), {"inverted": wrong}, layers=["input"])
    for name, x in (("original", digits.images), ("inverted", 1 - digits.images)):
        logits = digits.net(x)
        expected = torch.distributions.Categorical(logits=logits).entropy().mean()
        assert found.entropy[name] == pytest.approx(expected.item(), rel=1e-4)
        hits = (logits.argmax(1) == digits.labels).float().mean()
        assert found.accuracy[name] == pytest.approx(hits.item())
    assert found.accuracy["original"] == 1
    json.dumps(found.as_json(), allow_nan=False)


@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1)])
def test_the_curves_of_a_defence(digits, bounds):
    """Figure 6.6, with a defence that halves inputs and features: every curve is known."""
    lower, _ = bounds
    model = digits.model(bounds)
    defended = defend(model, {"input": Scale(0.5), "1": Scale(0.5)})

    def brighter(x, labels):
        return (x - lower) * 1.5 + lower

    x = digits.images_in(bounds)
    found = inspect_layers(
        model,
        zip(x.split(4), digits.labels.split(4), strict=True),
        {"brighter": brighter},
        layers=["input", "1"],
        defended=defended,
    )
    if lower == 0:
        assert found.distortion["brighter"][0] == pytest.approx(0.5)
        assert found.distortion["defended original"][0] == pytest.approx(0.5)
        assert found.distortion["defended brighter"][0] == pytest.approx(0.25)
        between = found.distortion["defended brighter, from defended original"]
        assert between[0] == pytest.approx(0.5)
    # Features do not depend on the bounds.
    clean = digits.net[:2](digits.images)
    own, other = (digits.net[:2](digits.images * f) / 2 for f in (0.5, 0.75))

    def ratio(a, b):
        return ((a - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)).mean().item()

    curves = found.distortion
    assert curves["defended original"][1] == pytest.approx(ratio(own, clean), rel=1e-4)
    assert curves["defended brighter"][1] == pytest.approx(ratio(other, clean), rel=1e-4)
    between = curves["defended brighter, from defended original"][1]
    assert between == pytest.approx(ratio(other, own), rel=1e-4)
    assert set(found.accuracy) == {
        "original",
        "brighter",
        "defended original",
        "defended brighter",
    }


def test_layers_inside_guarded_ones_are_found(digits):
    nested = torch.nn.Sequential(torch.nn.Sequential(*digits.net[:2]), *digits.net[2:]).eval()
    model = foolbox.PyTorchModel(nested, bounds=(0, 1), device="cpu")
    defended = defend(model, {"0": Scale(0.5), "0.0": Scale(2.0)})
    x = digits.images[:3]
    kept, _ = activations(defended, x, ["0.0", "0"])
    torch.testing.assert_close(kept["0.0"], 2 * digits.net[0](x))
    torch.testing.assert_close(kept["0"], digits.net[:2](x))


def test_a_random_defence_is_asked_once(digits):
    noise = GaussianNoise(0.1)
    kept, logits = activations(defend(digits.model(), noise), digits.images[:2], ["input"])
    assert noise.draw == 1
    torch.testing.assert_close(digits.net(kept["input"]), logits)


def test_the_outline_follows_the_run(digits):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(2 * 16, 10)
            self.unused = torch.nn.ReLU()
            self.blocks = torch.nn.ModuleList(torch.nn.Conv2d(c, 2, 3, 2, 1) for c in (1, 2))
            self.stem = torch.nn.MaxPool2d(1)

        def forward(self, x):
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            return self.head(x.repeat(1, 4, 1, 1).flatten(1))

    model = foolbox.PyTorchModel(Net().eval(), bounds=(0, 1), device="cpu")
    names = outline(model, digits.images[:1])
    assert names == ["input", "stem", "blocks.0", "blocks.1", "head", "output"]
    found = inspect_layers(model, batches(digits), {})
    assert found.layers == tuple(names)


def test_bad_input_is_refused(digits):
    with pytest.raises(ValueError, match="got '7': the nearest are"):
        activations(digits.model(), digits.images, ["7"])
    with pytest.raises(ValueError, match="at least one image"):
        inspect_layers(digits.model(), iter([]), {})
    unused = torch.nn.Sequential(digits.net)
    unused.extra = torch.nn.ReLU()
    unused.forward = lambda x: digits.net(x)
    model = foolbox.PyTorchModel(unused.eval(), bounds=(0, 1), device="cpu")
    with pytest.raises(ValueError, match="'extra' did not run"):
        activations(model, digits.images, ["extra"])
    with pytest.raises(ValueError, match=r"foolbox.PyTorchModel to reach the layers"):
        activations(foolbox.models.ThresholdingWrapper(model, 0.5), digits.images, ["0"])
    assert defend(digits.model(), BitDepthReduction())  # none of this leaves a hook behind
    assert all(len(m._forward_hooks) == 0 for m in digits.net.modules())
