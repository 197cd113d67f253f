from __future__ import annotations

import foolbox
import pytest

torch = pytest.importorskip("torch")

from foolart.evaluation.counting import BudgetExhausted, CountingModel  # noqa: E402


def counting(linear, **kwargs):
    return CountingModel(linear.model(), linear.images, linear.labels, **kwargs)


def test_a_known_attack_costs_what_it_should(linear):
    model = counting(linear)
    foolbox.attacks.DDNAttack(steps=7)(model, linear.images, linear.labels, epsilons=None)
    # One forward more: Foolbox judges the result.
    assert model.counts() == ([8] * 6, [7] * 6)
    assert model.queries == 15


@pytest.mark.parametrize("how", ["autograd", "backward", "eagerpy"])
def test_backward_passes_are_counted_however_they_are_asked_for(linear, how):
    import eagerpy as ep

    model = counting(linear)
    for _ in range(3):
        if how == "eagerpy":
            ep.value_and_grad(lambda x: model(x).sum(), ep.astensor(linear.images))
            continue
        x = linear.images.clone().requires_grad_()
        loss = model(x).sum() + model(x).sum()
        if how == "autograd":
            torch.autograd.grad(loss, x)
        else:
            loss.backward()
    each = 3 if how == "eagerpy" else 6
    assert model.counts() == ([each] * 6, [each] * 6)


def test_a_forward_without_gradient_costs_no_backward(linear):
    model = counting(linear)
    outputs = model(linear.images)
    assert torch.equal(outputs, linear.model()(linear.images))
    assert not outputs.requires_grad
    assert model.counts() == ([1] * 6, [0] * 6)


def test_some_rows_are_found_by_their_originals(linear):
    model = counting(linear)
    noise = 0.02 * torch.randn(linear.images.shape, generator=torch.Generator().manual_seed(0))
    x = (linear.images + noise)[[4, 1, 4]].requires_grad_()
    model(x).sum().backward()
    assert model.counts() == ([0, 1, 0, 0, 2, 0], [0, 1, 0, 0, 2, 0])
    model(torch.cat([linear.images, linear.images]))
    assert model.counts()[0] == [2, 3, 2, 2, 4, 2]


def test_padding_is_left_out(linear):
    model = counting(linear, rows=2)
    model(linear.images)
    assert model.counts() == ([1, 1], [0, 0])
    assert len(model.curves()) == 2


def test_the_curve_is_that_of_the_best_so_far(linear):
    model = counting(linear)
    normal = linear.weight[1 - linear.labels] - linear.weight[linear.labels]
    normal = (normal / normal.norm(dim=1, keepdim=True)).reshape(linear.images.shape)
    true = linear.distances().reshape(-1, 1, 1, 1)
    for factor in (1.5, 0.5, 1.2, 1.4):
        model(linear.images + factor * true * normal)
    for k, (queries, distances) in enumerate(model.curves()):
        assert queries == (1, 3)
        assert distances == pytest.approx([1.5 * true[k].item(), 1.2 * true[k].item()], rel=1e-4)


def test_the_budget_is_enforced_and_the_best_kept(linear):
    model = counting(linear, budget=9)
    with pytest.raises(BudgetExhausted):
        foolbox.attacks.DDNAttack(steps=50)(model, linear.images, linear.labels, epsilons=None)
    forwards, backwards = model.counts()
    assert [f + b for f, b in zip(forwards, backwards, strict=True)] == [10] * 6
    distances = (model.best - linear.images).flatten(1).norm(dim=1)
    for distance, (_, curve) in zip(distances.tolist(), model.curves(), strict=True):
        assert distance == pytest.approx(curve[-1] if curve else 0.0, rel=1e-5)


def test_nothing_waits_for_the_device(linear, monkeypatch):
    model = counting(linear, budget=1000)
    x = linear.images.clone()

    def refuse(*args, **kwargs):
        raise AssertionError("a host synchronisation")

    for name in ("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "nonzero"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    model(x)
    model(x[:2])
    torch.autograd.grad(model(x.requires_grad_()).sum(), x)


def test_everything_else_is_the_model_inside(linear):
    model = counting(linear)
    assert tuple(model.bounds) == (0, 1)
    assert model.data_format == "channels_first"


def test_padding_is_not_counted_with_the_row_that_it_repeats(linear):
    x, y = linear.images[[0, 1, 2, 0, 0]], linear.labels[[0, 1, 2, 0, 0]]
    model = CountingModel(linear.model(), x, y, rows=3)
    model(x)
    for rows in ([0, 1, 3, 4], [0, 3, 4], [2]):
        model(x[rows])
    assert model.counts()[0] == [3, 2, 2]
