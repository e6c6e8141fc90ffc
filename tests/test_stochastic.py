"""VRNN and STORN: the papers' steps, whole and compiled, and bounds that are bounds."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from both import assert_float32_is_as_good, assert_kernel_is_loop, draw_inputs
from conveyor import Recurrent, backend
from conveyor.zoo import storn, vrnn
from conveyor.zoo.latent import Bernoulli, Gaussian, divergence, gaussian, log_ratio
from oracles import storn as storn_oracle
from oracles import vrnn as vrnn_oracle
from tolerance import KERNEL, assert_equal

T, B, INPUT, HIDDEN, LATENT = 3, 2, 2, 3, 2


def vrnn_matrices(named):
    """From the cell's parameters to those of the oracle."""

    def join(module, *operands):
        return np.concatenate([named[f"{module}.weight_{name}"] for name in operands], axis=1)

    p = {f"W_{v}": named[f"phi_{v}.weight_{v}"] for v in "xz"} | {f"b_{v}": named[f"phi_{v}.bias"] for v in "xz"}
    for symbol, module, last, read in (
        ("prior", "prior", "prior", ("h",)),
        ("enc", "posterior", "enc", ("phi_x", "h")),
        ("dec", "likelihood", "dec", ("phi_z", "h")),
    ):
        p[f"W_{symbol}"] = [join(f"{module}_hidden", *read), named[f"{module}.weight_{last}"]]
        p[f"b_{symbol}"] = [named[f"{module}_hidden.bias"], named[f"{module}.bias"]]
    gates = [f"recurrence.{gate}" for gate in ("forget", "input", "candidate", "output")]
    return p | {"W": [join(gate, "h", "x") for gate in gates], "b": [named[f"{gate}.bias"] for gate in gates]}


def storn_matrices(named):
    recognise, hidden = ({k.partition(".")[2]: named[k] for k in named if k.startswith(m)} for m in ("rec", "hid"))
    return {
        "W_r": recognise["weight_x"],
        "R_r": recognise["weight_r"],
        "b_r": recognise["bias"],
        "W_q": named["posterior.weight_r"],
        "b_q": named["posterior.bias"],
        "W": hidden["weight_past"],
        "R": hidden["weight_h"],
        "V": hidden["weight_z"],
        "b": hidden["bias"],
        "W_y": named["likelihood.weight_h"],
        "b_y": named["likelihood.bias"],
    }


def vrnn_oracle_run(given, named):
    return vrnn_oracle.run(*(given[name] for name in ("x", "epsilon", "h", "C")), vrnn_matrices(named))


def storn_oracle_run(given, named):
    return storn_oracle.run(*(given[name] for name in ("x", "epsilon", "h", "r")), storn_matrices(named))


CELLS = {
    "vrnn": (vrnn.VRNNCell, {"latent_size": LATENT, "feature_size": 3, "outputs": 2 * INPUT}, vrnn_oracle_run),
    "storn": (storn.STORNCell, {"latent_size": LATENT, "recogniser_size": 4, "outputs": 2 * INPUT}, storn_oracle_run),
}
NETWORKS = {"vrnn": vrnn.VRNN, "storn": storn.STORN}
every_cell = pytest.mark.parametrize("name", CELLS)
every_network = pytest.mark.parametrize("name", NETWORKS)


def layer_of(name, dtype=torch.float64):
    cell, options, _ = CELLS[name]
    return Recurrent(cell, INPUT, HIDDEN, dtype=dtype, **options)


def network_of(name, input_size=INPUT, latent_size=LATENT, likelihood=None, spread=1.0):
    """A network in float64 whose weights are `spread` times as large as drawn."""
    network = NETWORKS[name](input_size, HIDDEN, latent_size, 3, likelihood=likelihood).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(spread)
    return network


def shifted(x):
    return torch.cat([torch.zeros_like(x[:1]), x[:-1]])


def run(layer, given):
    """By name: the output, the last states, and what the cell gives besides."""
    others = {name: given[name] for name in ("epsilon", "past") if name in given}
    state = tuple(given[name][None] for name in layer.state_names)
    output, last, values = layer(given["x"], state, **others)
    found = {"output": output} | {f"last {n}": v[0] for n, v in zip(layer.state_names, last, strict=True)}
    return found | {name: value[0, 0] for name, value in values.items()}


def by_oracle(name, layer, given, named):
    (output, *values), lasts = CELLS[name][2](given, named)
    found = {"output": output} | {f"last {n}": v for n, v in zip(layer.state_names, lasts, strict=True)}
    return found | dict(zip(layer.cell.extra, values, strict=True))


@every_cell
def test_the_step_and_its_gradients_are_the_papers(name):
    """Every output, and its derivative by every number that goes in: the oracle's is by a complex step."""
    layer = layer_of(name)
    widths = {n: layer.cell.widths[n] for n in ("x", "epsilon", *layer.state_names)}
    inputs = {n: torch.randn(*(T, B) if n in ("x", "epsilon") else (B,), w).double() for n, w in widths.items()}
    inputs = {n: value.requires_grad_() for n, value in inputs.items()}
    found = run(layer, inputs | ({"past": shifted(inputs["x"])} if name == "storn" else {}))
    named = dict(layer.cell.named_parameters())
    numbers = {n: v.detach().numpy() for n, v in (inputs | named).items()}
    expected = by_oracle(name, layer, numbers, numbers)
    assert list(found) == list(expected)
    for what, value in found.items():
        assert_equal(value, expected[what], what)

    weights = {what: torch.randn_like(value) for what, value in found.items()}
    sum((value * weights[what]).sum() for what, value in found.items()).backward()
    for what, tensor in (inputs | named).items():
        slopes = np.zeros(tensor.shape)
        for index in np.ndindex(tensor.shape):
            moved = numbers[what].astype(complex)
            moved[index] += 1e-30j
            given = numbers | {what: moved}
            results = by_oracle(name, layer, given, given)
            slopes[index] = sum(np.sum(results[k].imag * w.numpy()) for k, w in weights.items()) / 1e-30
        assert_equal(tensor.grad, slopes, f"gradient of {what}")


@every_cell
def test_the_whole_step_runs_compiled(name):
    layer = layer_of(name)
    assert_kernel_is_loop(layer, draw_inputs(layer, 5, 7))
    assert_kernel_is_loop(layer, draw_inputs(layer, 5, 4), lengths=[5, 0, 2, 1])

    def draw():
        layer = layer_of(name, torch.float32)
        return layer, draw_inputs(layer, 5, 7)

    assert_float32_is_as_good(draw)


def test_the_divergence_is_zero_where_posterior_and_prior_are_the_same():
    mu, sigma = gaussian(torch.randn(50, 2 * 8, dtype=torch.float64) * 5)
    assert (divergence(mu, sigma, mu, sigma) == 0).all()


def test_the_divergence_is_never_negative():
    thetas = [torch.randn(2000, 8, dtype=torch.float64) * 10**scale for scale in (-8, -4, 0, 1)]
    for one, other in product(thetas, thetas):
        kl = divergence(*gaussian(one), *gaussian(other + one))
        assert kl.min() > -1e-12
    assert divergence(*gaussian(thetas[2]), *gaussian(thetas[3])).min() > 0.1


def test_a_small_divergence_is_not_rounded_away_in_float32():
    theta = torch.randn(1000, 1) * 10 ** torch.linspace(-6, 0, 7)[:, None, None]
    mu, sigma = theta * 0.1, theta.exp()
    zero, one = torch.zeros_like(mu), torch.ones_like(mu)
    found = divergence(mu, sigma, zero, one)
    exact = divergence(*(value.double() for value in (mu, sigma, zero, one)))
    assert (found >= 0).all()
    assert ((found - exact).abs() <= 1e-5 * exact + 2e-7 * (sigma - 1).abs()[..., 0]).all()


def test_the_divergence_is_the_mean_of_the_log_ratio():
    theta, theta_0, epsilon = torch.randn(8), torch.randn(8), torch.randn(200_000, 4)
    (mu, sigma), prior = gaussian(theta), gaussian(theta_0)
    ratio = log_ratio(epsilon, sigma, mu + sigma * epsilon, *prior)
    assert abs(ratio.mean() - divergence(mu, sigma, *prior)) < 4 * ratio.std() / len(ratio) ** 0.5


def test_posterior_equal_to_prior_has_no_divergence_in_the_network():
    network = network_of("vrnn")
    cell = network.layer.cell
    with torch.no_grad():  # the posterior's network is the prior's, and does not look at x
        cell.posterior_hidden.weight_phi_x.zero_()
        for one, other in ((cell.posterior_hidden, cell.prior_hidden), (cell.posterior, cell.prior)):
            one.bias.copy_(other.bias)
        cell.posterior_hidden.weight_h.copy_(cell.prior_hidden.weight_h)
        cell.posterior.weight_enc.copy_(cell.prior.weight_prior)
    terms = network(torch.bernoulli(torch.full((T, B, INPUT), 0.5)).double())
    assert_equal(terms.kl.detach(), np.zeros((T, B)), "KL")
    assert_equal(terms.ratio.detach(), np.zeros((T, B)), "ln q - ln p")


# The exact likelihood: of two frames of one feature, by a sum over a fine grid of two latent numbers.
OUTCOMES = torch.tensor([*product((0.0, 1.0), repeat=2)], dtype=torch.float64).t()[:, :, None]  # [2, 4, 1]
GRID = np.linspace(-7, 7, 561)


def exact(name, network):
    """ln p(x) of each of the four outcomes, by the oracle."""
    u = np.stack([*map(np.ravel, np.meshgrid(GRID, GRID))])[:, :, None]
    weight = np.exp(vrnn_oracle.log_normal(u, 0, 1).sum(0)) * (GRID[1] - GRID[0]) ** 2
    named = {n: p.detach().numpy() for n, p in network.layer.cell.named_parameters()}
    h = np.zeros((u.shape[1], HIDDEN))
    found = []
    for x in OUTCOMES.numpy().transpose(1, 0, 2):
        given = np.broadcast_to(x[:, None], u.shape)
        if name == "vrnn":
            logs = vrnn_oracle.joint(given, u, h, h, vrnn_matrices(named), vrnn_oracle.log_bernoulli)
        else:
            logs = storn_oracle.joint(given, u, h, storn_matrices(named), vrnn_oracle.log_bernoulli)
        found.append(np.log(np.sum(weight * np.exp(logs))))
    return torch.tensor(found)


@pytest.fixture(params=NETWORKS, scope="module")
def tiny(request):
    """A network of one feature and one latent number with strong weights, and the exact ln p of the four outcomes."""
    torch.manual_seed(3)
    network = network_of(request.param, 1, 1, spread=2)
    with torch.no_grad():
        network.layer.cell.posterior.bias[1] += 2  # wide, so that no weight of importance is without bounds
    return network, exact(request.param, network)


def test_the_probabilities_of_all_outcomes_are_one_together(tiny):
    assert abs(tiny[1].exp().sum() - 1) < 1e-4


def test_the_bound_is_above_the_exact_value(tiny):
    """In the mean over the noise, and clearly so: the posterior was not fitted."""
    network, logs = tiny
    bound = network(OUTCOMES.repeat_interleave(4000, 1)).bound.sum(0).view(4, 4000).detach()
    error = bound.std(1) / bound.shape[1] ** 0.5
    assert (bound.mean(1) > -logs - 4 * error).all()
    assert (bound.mean(1) > -logs + 4 * error).any()


def test_more_samples_bring_the_estimate_down_to_the_exact_value(tiny):
    network, logs = tiny
    before = None
    for samples in (1, 4, 32):
        found = network.estimate(OUTCOMES.repeat_interleave(1000, 1), samples=samples).view(4, 1000)
        mean, error = found.mean(1), found.std(1) / 1000**0.5
        assert (mean > -logs - 4 * error - 1e-4).all()
        assert before is None or (mean < before[0] + 4 * (error + before[1])).all()
        before = mean, error
    many = network.estimate(OUTCOMES, samples=50_000)
    assert (many + logs).abs().max() < 0.03


def test_what_is_generated_comes_as_often_as_the_exact_value_says(tiny):
    network, logs = tiny
    drawn = network.generate(2, rows=20_000, generator=torch.Generator().manual_seed(5))
    assert drawn.shape == (2, 20_000, 1)
    chance = logs.exp()
    often = torch.stack([(drawn == outcome[:, None]).all(0).double().mean() for outcome in OUTCOMES.unbind(1)])
    assert ((often - chance).abs() < 4 * (chance / 20_000).sqrt()).all()
    again = network.generate(2, rows=20_000, generator=torch.Generator().manual_seed(5))
    assert torch.equal(drawn, again)


def linear_gaussian(gain, deviation, slope, spread):
    """A VRNN that is x = gain z + deviation ε with z ~ N(0, 1) at every step, and q(z | x) = N(slope x, spread)."""

    def free(sigma):  # softplus(a) + the floor is sigma
        return math.log(math.expm1(sigma - 1e-4))

    network = vrnn.VRNN(1, 2, latent_size=1, feature_size=1, likelihood=Gaussian()).double()
    cell = network.layer.cell
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.zero_()
        far = 50.0  # all rectifiers are in their linear part
        for module, weight in ((cell.phi_x, "weight_x"), (cell.phi_z, "weight_z")):
            getattr(module, weight).fill_(1)
            module.bias.fill_(far)
        cell.posterior_hidden.weight_phi_x.fill_(1)
        cell.likelihood_hidden.weight_phi_z.fill_(1)
        cell.prior.bias.copy_(torch.tensor([0, free(1)], dtype=torch.float64))
        for module, weight, by, sigma in (
            (cell.posterior, "weight_enc", slope, spread),
            (cell.likelihood, "weight_dec", gain, deviation),
        ):
            getattr(module, weight).copy_(torch.tensor([[by], [0]], dtype=torch.float64))
            module.bias.copy_(torch.tensor([-by * far, free(sigma)], dtype=torch.float64))
    return network


def test_the_bound_of_a_linear_gaussian_network_is_what_theory_says():
    gain, deviation = 1.5, 0.7
    variance = gain**2 + deviation**2
    x = torch.randn(4, 3, 1, dtype=torch.float64)
    true = 0.5 * (x**2 / variance + math.log(2 * math.pi * variance)).sum((0, 2))  # -ln p(x)
    slope, spread = gain / variance, deviation / variance**0.5  # of p(z | x): with it the bound has no gap
    best = linear_gaussian(gain, deviation, slope, spread)
    assert_equal(best.estimate(x, samples=1), true, "one sample")
    assert_equal(best.estimate(x, samples=7), true, "seven samples")

    mu, sigma = torch.full((1,), 0.4) + 0 * x, torch.tensor([1.3], dtype=torch.float64)
    worse = linear_gaussian(gain, deviation, 0.0, 1.3)
    with torch.no_grad():
        worse.layer.cell.posterior.bias[0] = 0.4
        bound = worse(x.repeat(1, 20_000, 1)).bound.sum(0).view(20_000, 3)
    gap = divergence(mu, sigma, slope * x, torch.tensor([spread], dtype=torch.float64)).sum(0)
    assert ((bound.mean(0) - true - gap).abs() < 4 * bound.std(0) / 20_000**0.5).all()


def test_the_generator_of_storn_sees_the_past_only():
    """θ_t depends on x_t and what follows through z alone: with a blind recogniser not at all."""
    network = network_of("storn", likelihood=Gaussian())
    x = torch.randn(5, B, INPUT, dtype=torch.float64, requires_grad=True)

    def seen():  # [t, s]: whether θ_t moves with x_s
        theta = network(x, generator=torch.Generator().manual_seed(0)).theta
        slopes = [torch.autograd.grad(value.sum(), x, retain_graph=True)[0] for value in theta]
        return torch.stack([slope.abs().sum((1, 2)) > 0 for slope in slopes])

    assert torch.equal(seen(), torch.ones(5, 5).tril() > 0)  # through z_1..t, up to x_t
    with torch.no_grad():
        network.layer.cell.posterior.weight_r.zero_()
    assert torch.equal(seen(), torch.ones(5, 5).tril(-1) > 0)  # x_t-1 and before


@every_network
@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian()], ids=["bernoulli", "gaussian"])
def test_padding_changes_nothing(name, likelihood):
    network = network_of(name, likelihood=likelihood)
    lengths = [5, 2, 1]
    x = torch.rand(5, 3, INPUT, dtype=torch.float64)
    epsilon = torch.randn(5, 3, LATENT, dtype=torch.float64)
    padded = torch.where(torch.arange(5)[:, None, None] < torch.tensor(lengths)[:, None], x, torch.nan)

    def gradients(loss):
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))])

    together = network(padded, lengths, epsilon).bound.sum(0)
    alone = [network(x[:n, [i]], None, epsilon[:n, [i]]).bound.sum() for i, n in enumerate(lengths)]
    assert_equal(together.detach(), torch.stack(alone).detach(), "bound")
    assert_equal(gradients(together.sum()), gradients(sum(alone)), "gradient")
    rows = [network.estimate(value, lengths, 4, torch.Generator().manual_seed(1)) for value in (x, padded)]
    assert_equal(rows[0], rows[1], "estimate")


def test_a_likelihoods_mean_is_that_of_its_samples():
    theta = torch.randn(6)
    for likelihood in (Bernoulli(), Gaussian()):
        drawn = likelihood.sample(theta.expand(50_000, 6), torch.Generator().manual_seed(0))
        assert ((drawn.mean(0) - likelihood.mean(theta)).abs() < 5 * drawn.std(0) / 50_000**0.5).all()


def test_the_likelihoods_are_the_textbooks():
    x, theta = torch.bernoulli(torch.full((4, 3), 0.5)).double(), torch.randn(4, 6, dtype=torch.float64)
    found = Bernoulli().nll(x, theta[:, :3])
    assert_equal(found, -vrnn_oracle.log_bernoulli(x.numpy(), theta[:, :3].numpy()), "Bernoulli")
    normal = vrnn_oracle.normal(theta.numpy())
    assert_equal(Gaussian().nll(x, theta), -vrnn_oracle.log_normal(x.numpy(), *normal), "Gaussian")


REFUSALS = {
    "rank": (lambda n, x: n(x[0]), ValueError, r"x must be \[T, B, 2\], not \[4, 2\]"),
    "rank, estimated": (lambda n, x: n.estimate(x[0]), ValueError, r"x must be \[T, B, 2\], not \[4, 2\]"),
    "width": (lambda n, x: n(x[..., :1]), ValueError, r"x must be \[T, B, 2\], not \[3, 4, 1\]"),
    "whole numbers": (lambda n, x: n(x.long()), ValueError, r"x is torch.int64, but .* give x.to\(torch.float64\)"),
    "array": (lambda n, x: n(x.numpy()), TypeError, "x must be a tensor, not ndarray"),
    "lengths": (lambda n, x: n(x, [3, 2, 1]), ValueError, r"lengths must be \[B\], one for each of 4 rows, not \[3\]"),
    "noise of one": (lambda n, x: n(x, epsilon=x[..., :1]), ValueError, r"epsilon must be \[3, 4, 2\], not \[3, 4, 1"),
    "noise's rank": (lambda n, x: n(x, epsilon=x[..., 0]), ValueError, r"epsilon must be \[3, 4, 2\], not \[3, 4\]"),
    "noise's steps": (lambda n, x: n(x, epsilon=x[:2]), ValueError, r"epsilon must be \[3, 4, 2\], not \[2, 4, 2\]"),
    "noise's type": (lambda n, x: n(x, epsilon=x.float()), ValueError, "epsilon is torch.float32, but the weights"),
    "grey": (lambda n, x: n(x + 2), ValueError, "must lie between 0 and 1, .* between 2 and 2"),
    "NaN": (lambda n, x: n(x + math.nan), ValueError, "must lie between 0 and 1"),
    "no samples": (lambda n, x: n.estimate(x, samples=0), ValueError, "samples must be greater than zero, not 0"),
    "half a sample": (lambda n, x: n.estimate(x, samples=2.5), TypeError, "samples must be an integer, not 2.5"),
    "samples in words": (lambda n, x: n.estimate(x, samples="3"), TypeError, "samples must be an integer, not '3'"),
    "no steps": (lambda n, _: n.generate(0), ValueError, "steps must be greater than zero, not 0"),
    "no rows": (lambda n, _: n.generate(2, 0), ValueError, "rows must be greater than zero, not 0"),
}


@every_network
@pytest.mark.parametrize("what", REFUSALS)
def test_what_cannot_be_explained_is_refused(name, what):
    call, error, message = REFUSALS[what]
    with pytest.raises(error, match=message):
        call(network_of(name), torch.zeros(3, 4, INPUT, dtype=torch.float64))


def test_sizes_that_are_not_positive_are_refused():
    with pytest.raises(ValueError, match="latent_size must be greater than zero, not 0"):
        vrnn.VRNN(2, 3, latent_size=0)
    with pytest.raises(ValueError, match="recogniser_size must be greater than zero, not 0"):
        storn.STORN(2, 3, recogniser_size=0)


@every_network
def test_a_network_can_be_mapped_over_batches(name):
    """Under vmap, which sees many numbers in one, features are not checked."""
    network = network_of(name)
    x = torch.rand(3, T, B, INPUT, dtype=torch.float64)
    epsilon = torch.randn(3, T, B, LATENT, dtype=torch.float64)
    with backend("eager"):
        found = torch.func.vmap(lambda x, epsilon: network(x, None, epsilon).bound)(x, epsilon)
        assert_equal(found, torch.stack([network(*given).bound for given in zip(x, [None] * 3, epsilon, strict=True)]))


@every_network
def test_a_network_is_compiled_without_a_graph_break(name):
    torch._dynamo.reset()
    network = network_of(name)
    x, epsilon = torch.rand(T, B, INPUT).double(), torch.randn(T, B, LATENT).double()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    assert_equal(compiled(x, None, epsilon).bound, network(x, None, epsilon).bound, table=KERNEL)
