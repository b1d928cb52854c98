from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from offnominal.nets.density import MixtureDensity  # noqa: E402
from offnominal.nets.flow import ActNorm, AffineCoupling, Flow, Permutation, glow  # noqa: E402


def small_net(taken: int, given: int) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(taken, 16), torch.nn.Tanh(), torch.nn.Linear(16, given))


def conv_net(taken: int, given: int) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(taken, 8, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv2d(8, given, 3, padding=1)
    )


def test_the_mixture_is_the_sum_of_weighted_densities() -> None:
    torch.manual_seed(0)
    head = MixtureDensity(5, 3, 4).double()
    inputs, targets = torch.randn(2, 6, 5).double(), torch.randn(2, 6, 3).double()
    found = head.log_likelihood(inputs, targets).detach().numpy()
    log_weights, means, deviations = (v.detach().numpy() for v in head(inputs))
    np.testing.assert_allclose(np.exp(log_weights).sum(-1), 1)
    for i in range(2):
        for j in range(6):
            density = 0.0
            for k in range(4):
                part = math.exp(log_weights[i, j, k])
                for c in range(3):
                    mean, deviation = means[i, j, k, c], deviations[i, j, k, c]
                    x = float(targets[i, j, c])
                    part *= math.exp(-(((x - mean) / deviation) ** 2) / 2) / (
                        deviation * math.sqrt(2 * math.pi)
                    )
                density += part
            assert found[i, j] == pytest.approx(math.log(density), rel=1e-9)


@torch.no_grad()
def test_the_likelihood_is_finite_and_bounded_where_a_plain_sum_is_not() -> None:
    head = MixtureDensity(2, 8, 3, floor=0.01)
    with torch.no_grad():
        head.deviations.bias.fill_(-1000.0)  # all the way down to the floor
    inputs = torch.zeros(1, 2)
    target = head(inputs)[1][:, 0].detach()
    best = float(head.log_likelihood(inputs, target))
    assert best <= 8 * -math.log(0.01 * math.sqrt(2 * math.pi)) + 1e-3
    far = head.log_likelihood(inputs, target + 1e4)
    assert torch.isfinite(far).all()


@pytest.mark.parametrize("limit", [1.9, 0.5])
def test_the_log_determinant_is_that_of_the_jacobian(limit: float) -> None:
    torch.manual_seed(0)
    steps = [ActNorm(5), Permutation(5), AffineCoupling(5, small_net, limit=limit), Permutation(5, seed=3)]
    flow = Flow([*steps, AffineCoupling(5, small_net)]).double()
    flow(torch.randn(50, 5).double() * 3 + 1)  # sets the act-norm
    flow.eval()
    for value in torch.randn(4, 5).double():
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0][0], value)
        _, change = flow(value[None])
        assert change.item() == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), rel=1e-9)


def test_places_of_a_map_sum_to_the_log_determinant_of_the_whole() -> None:
    torch.manual_seed(0)
    flow = glow(3, 2, conv_net).double()
    flow(torch.randn(8, 3, 3, 4).double())
    flow.eval()
    value = torch.randn(3, 3, 4).double()
    jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0][0], value).reshape(36, 36)
    _, change = flow(value[None])
    assert change.shape == (1, 3, 4)
    assert change.sum().item() == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), rel=1e-9)


def test_the_flow_goes_back_to_its_input_with_a_condition_too() -> None:
    torch.manual_seed(0)
    flow = glow(4, 3, small_net, context=2).double()
    values, context = torch.randn(30, 4).double(), torch.randn(30, 2).double()
    flow(values, context)
    latents, _ = flow(values, context)
    torch.testing.assert_close(flow.inverse(latents, context), values)
    assert not torch.allclose(flow.inverse(latents, context + 1), values)


def test_act_norm_standardises_its_first_batch_and_no_later_one() -> None:
    norm = ActNorm(3)
    first = torch.randn(200, 3, 4) * 5 + 2
    out, _ = norm(first)
    torch.testing.assert_close(out.mean((0, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std((0, 2), correction=0), torch.ones(3))
    again, _ = norm(first + 7)
    assert again.mean().item() > 1
    untouched = ActNorm(3).eval()
    torch.testing.assert_close(untouched(first)[0], first)


def test_the_log_likelihood_of_a_flow_that_only_scales_is_the_gaussians() -> None:
    norm = ActNorm(2).eval()
    with torch.no_grad():
        norm.log_scale.copy_(torch.tensor([math.log(2.0), 0.0]))
        norm.shift.copy_(torch.tensor([-1.0, 0.5]))
    values = torch.randn(6, 2)
    expected = torch.distributions.Normal(torch.tensor([1.0, -0.5]), torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(Flow([norm]).log_likelihood(values), expected.log_prob(values).sum(-1))


def test_a_coupling_of_one_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        AffineCoupling(1, small_net)
