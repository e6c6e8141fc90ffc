"""DRAW: its equations, its windows, and that its bound is one."""

import itertools
import math

import numpy as np
import pytest
import torch

import conveyor
from both import assert_kernel_is_loop
from cases import matrices
from conveyor.zoo.draw import DRAW, AttentiveDRAW
from conveyor.zoo.draw_network import DrawNetwork
from conveyor.zoo.draw_window import Filterbanks, filterbank, read, write
from oracles import draw as oracle
from tolerance import assert_equal

T, B, LATENT, HIDDEN = 2, 2, 2, 3
SIZE = {"height": 3, "width": 4}
CELLS = {
    "without attention": (DRAW, {"encoder_size": 4}),
    "with attention": (AttentiveDRAW, {"encoder_size": 4, "read_size": 2, "write_size": 3}),
    "with windows of one": (AttentiveDRAW, {"read_size": 1, "write_size": 1}),
}
GATES = {"f": "forget", "i": "input", "C": "candidate", "o": "output"}
W = {f"W_{s}_{n}": f"{m}coder.{gate}: h x" for s, gate in GATES.items() for n, m in (("enc", "en"), ("dec", "de"))}
W |= {f"b_{s}_{n}": f"{m}coder.{gate}.bias" for s, gate in GATES.items() for n, m in (("enc", "en"), ("dec", "de"))}
MAPS = {"mu": ("mean", "h_enc"), "sigma": ("spread", "h_enc"), "w": ("write", "h_dec")}
PLACES = {"read": ("read_place", "h_dec"), "write": ("write_place", "h_dec")}


def layer_of(name, **options):
    cell, further = CELLS[name]
    return conveyor.Recurrent(cell, LATENT, HIDDEN, dtype=torch.float64, **SIZE, **further, **options)


def gather(layer, named):
    maps = MAPS | (PLACES if isinstance(layer.cell, AttentiveDRAW) else {})
    further = {f"W_{s}": f"{module}: {operand}" for s, (module, operand) in maps.items()}
    return matrices(**W, **further, **{f"b_{s}": f"{module}.bias" for s, (module, _) in maps.items()})(named)


def by_oracle(layer, given):
    sizes = [layer.options.get(name) for name in ("read_size", "write_size")]
    return oracle.draw(height=3, width=4, N_read=sizes[0], N_write=sizes[1], **given)


def draw_inputs(layer):
    inputs = {"noise": torch.randn(T, B, LATENT), "image": torch.rand(B, layer.cell.widths["image"])}
    inputs |= {name: torch.randn(B, layer.cell.widths[name]) * 0.5 for name in layer.state_names}
    return {name: value.double().requires_grad_() for name, value in inputs.items()}


@pytest.fixture
def eager():
    """For what is said of the equations, not of a kernel, which would take seconds to be made."""
    with conveyor.backend("eager"):
        yield


def run(layer, inputs):
    """By name: the canvases, the last states, and the values."""
    states = tuple(inputs[name][None] for name in layer.state_names)
    output, last, values = layer(inputs["noise"], states, image=inputs["image"])
    found = {"canvas": output} | {f"last {n}": s[0] for n, s in zip(layer.state_names, last, strict=True)}
    return found | {name: value[0, 0] for name, value in values.items()}


def flat(canvas, last, values):
    return [canvas, *last, *values]


def numbers(named):
    return {name: value.detach().numpy().copy() for name, value in named.items()}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.usefixtures("eager")
def test_outputs_are_the_papers(name):
    layer = layer_of(name)
    inputs = draw_inputs(layer)
    expected = by_oracle(layer, numbers(inputs) | gather(layer, numbers(dict(layer.cell.named_parameters()))))
    for (what, value), wanted in zip(run(layer, inputs).items(), flat(*expected), strict=True):
        assert_equal(value, wanted, what)


@pytest.mark.parametrize("name", list(CELLS)[:2])
def test_gradients_are_the_papers(name):
    """The oracle's derivative by a complex step, for every input, state and matrix."""
    layer = layer_of(name)
    inputs = draw_inputs(layer)
    found = run(layer, inputs)
    weights = [torch.randn_like(value) for value in found.values()]
    sum((value * w).sum() for value, w in zip(found.values(), weights, strict=True)).backward()
    named = dict(layer.cell.named_parameters())
    values = numbers(inputs) | gather(layer, numbers(named))
    gradients = numbers({n: v.grad for n, v in inputs.items()})
    gradients |= gather(layer, numbers({n: p.grad for n, p in named.items()}))
    for key, value in values.items():
        expected = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[index] += 1e-30j
            results = flat(*by_oracle(layer, {**values, key: moved}))
            expected[index] = sum(np.sum(r * w.numpy()) for r, w in zip(results, weights, strict=True)).imag / 1e-30
        assert_equal(torch.from_numpy(gradients[key]), expected, key)


@pytest.mark.parametrize("name", list(CELLS)[:2])
def test_the_kernel_is_the_loop(name):
    layer = layer_of(name)
    assert_kernel_is_loop(layer, run_inputs(layer), lengths=[3, 1, 0, 2, 3])


def test_the_kernel_is_the_loop_with_narrow_windows_beside_the_image():
    layer = layer_of("with attention")
    with torch.no_grad():
        layer.cell.read_place.bias.copy_(torch.tensor([10.0, -10, -750, 0, 0]))
        layer.cell.write_place.bias.copy_(torch.tensor([0.0, 5, -90, 1, 0]))
    assert_kernel_is_loop(layer, run_inputs(layer))


def run_inputs(layer):
    inputs = {"x": torch.randn(3, 5, LATENT), "image": torch.rand(5, 12)}
    inputs |= {name: torch.randn(1, 5, layer.cell.widths[name]) for name in layer.state_names}
    return {key: value.double().requires_grad_() for key, value in inputs.items()}


@pytest.mark.usefixtures("eager")
def test_with_the_filterbank_at_the_identity_it_is_draw_without_attention():
    """A window as large as the image, a filter on every pixel, hardly any variance: whole runs and gradients agree."""
    plain = conveyor.Recurrent(DRAW, LATENT, HIDDEN, height=3, width=3, dtype=torch.float64)
    sizes = {"height": 3, "width": 3, "read_size": 3, "write_size": 3}
    attentive = conveyor.Recurrent(AttentiveDRAW, LATENT, HIDDEN, **sizes, dtype=torch.float64)
    missing = attentive.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert {name.split(".")[2] for name in missing} == {"read_place", "write_place"}
    with torch.no_grad():
        for place in (attentive.cell.read_place, attentive.cell.write_place):
            place.weight_h_dec.zero_()
            place.bias.copy_(torch.tensor([0, 0, -20.0, 0, 0]))
    inputs = draw_inputs(plain)
    results = [run(layer, inputs) for layer in (plain, attentive)]
    losses = [sum((value.sin() * (1 + k)).sum() for k, value in enumerate(found.values())) for found in results]
    for what, value in results[0].items():
        assert_equal(results[1][what], value, what)
    extra = sum((results[1][name].sin() * (1 + k)).sum() for k, name in ((8, "read_window"), (9, "write_window")))
    shared = [dict(layer.named_parameters()) for layer in (plain, attentive)]
    wanted, found = (
        torch.autograd.grad(loss, [*inputs.values(), *(named[name] for name in shared[0])])
        for loss, named in zip((losses[0], losses[1] - extra), shared, strict=True)
    )
    for what, one, other in zip([*inputs, *shared[0]], wanted, found, strict=True):
        assert_equal(other, one, f"gradient of {what}")


def place(g_x=0.0, g_y=0.0, log_variance=0.0, log_stride=0.0, log_gamma=0.0):
    return torch.tensor([[g_x, g_y, log_variance, log_stride, log_gamma]], dtype=torch.float64)


def test_every_filter_sums_to_one_wherever_it_is():
    filters = Filterbanks(4, 5, 7).double()
    places = torch.cat([torch.randn(20, 5, dtype=torch.float64), place(1e3, -1e3, -30.0), place(9.0, 9.0, -700.0)])
    for bank in filters(places)[:2]:
        assert_equal(bank.sum(-1), torch.ones(22, 4, dtype=torch.float64))


CENTRES, VARIANCES = (0.0, 0.03, -1.5, 10.0, -1e3, 1e10), (-1e3, -710.0, -100.0, -90.0, -80.0, -20.0, 0.0, 80.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 3])
def test_filters_and_their_gradients_are_finite_however_narrow_and_far_they_are(size, dtype):
    places = torch.cat([place(g, 0.0, v) for g, v in itertools.product(CENTRES, VARIANCES)]).to(dtype).requires_grad_()
    found = Filterbanks(size, 28, 28).to(dtype)(places)
    for bank in found[:2]:
        assert_equal(bank.sum(-1), torch.ones(len(places), size, dtype=dtype))
        assert (bank >= 0).all()
    F_x = found[1].view(len(CENTRES), len(VARIANCES), size, 28)
    narrow, pixels = F_x[:, :5, size // 2], torch.tensor([14.5, 14.9, 1, 28, 1, 28])
    nearest = (pixels.unsqueeze(-1) - torch.arange(1, 29)).abs() < 0.5 + 1e-6  # of 14.5, two
    wanted = (nearest / nearest.sum(-1, keepdim=True)).to(dtype)
    assert_equal(narrow, wanted[:, None].expand_as(narrow))
    sum((value * torch.randn_like(value)).sum() for value in (*found[:2], found[3][:, :3])).backward()
    assert places.grad.isfinite().all()


def test_a_filters_gradient_by_its_centre_is_that_of_the_gaussian():
    """The pixel that distances are counted from jumps, and the filter does not."""
    mu = torch.tensor([[-3.0, 0.9, 1.5, 2.2, 4.49999, 7.0, 30.0]], dtype=torch.float64, requires_grad=True)
    precision, pixels = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True), torch.arange(1.0, 8).double()

    def gaussian(mu, precision):
        F = torch.exp(-0.5 * precision[:, :, None] * (pixels - mu[:, :, None]) ** 2)
        return F / F.sum(-1, keepdim=True)

    weight = torch.randn(1, 7, 7, dtype=torch.float64)
    results = [filter(mu, precision) for filter in (lambda m, p: filterbank(m, p, pixels), gaussian)]
    assert_equal(*results)
    found, wanted = (torch.autograd.grad((F * weight).sum(), [mu, precision]) for F in results)
    for one, other in zip(found, wanted, strict=True):
        assert_equal(one, other)


def test_the_first_window_covers_the_image_from_the_first_pixel_to_the_last():
    F_y, F_x, gamma, window = Filterbanks(5, 5, 5).double()(place(log_variance=-20.0))
    for bank in (F_y, F_x):
        assert_equal(bank[0], torch.eye(5, dtype=torch.float64))
    assert_equal(window, torch.tensor([[3.0, 3, 1, math.exp(-10), 1]], dtype=torch.float64))
    assert_equal(gamma, torch.ones(1, 1, dtype=torch.float64))


def test_a_window_of_one_reads_the_pixel_at_its_centre():
    image = torch.rand(1, 2, 12, dtype=torch.float64)
    for row, column in itertools.product(range(1, 4), range(1, 5)):
        there = place(2 * column / 5 - 1, 2 * row / 4 - 1, -20.0)
        F_y, F_x, _, window = Filterbanks(1, 3, 4).double()(there)
        assert_equal(window[0, :2], torch.tensor([column, row], dtype=torch.float64))
        pixel = (row - 1) * 4 + column - 1
        assert_equal(read(image, F_y, F_x).flatten(), image[0, :, pixel])
        written = write(torch.full((1, 1), 2.0, dtype=torch.float64), F_y, F_x)
        assert_equal(written, 2 * torch.eye(12, dtype=torch.float64)[pixel : pixel + 1])


def test_a_shifted_window_reads_what_is_there():
    """A window one pixel further right reads what the window reads of the image shifted one pixel left."""
    filters, image = Filterbanks(3, 9, 9).double(), torch.rand(1, 1, 9, 9, dtype=torch.float64)
    here, right, below = (place(x, y, -4.0, math.log(0.3)) for x, y in ((0, 0), (0.2, 0), (0, 0.2)))
    seen = [read(image.flatten(2), *filters(there)[:2]) for there in (here, right, below)]
    for shifted, dim in ((seen[1], 3), (seen[2], 2)):
        moved = image.roll(-1, dim).flatten(2)
        assert_equal(shifted, read(moved, *filters(here)[:2]))
        assert (shifted - seen[0]).abs().max() > 0.01


def network_of(cell=AttentiveDRAW, glimpses=2, **options):
    options = {"height": 2, "width": 2, "latent_size": 1, "hidden_size": 3} | options
    windows = {"read_size": 2, "write_size": 1} if cell is AttentiveDRAW else {}
    network = DrawNetwork(cell, glimpses=glimpses, **options, **windows).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "mean" not in name and "spread" not in name:  # q stays near enough p that its weights do not run wild
                parameter.add_(torch.randn_like(parameter) * 0.5)
    return network


IMAGES = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=torch.float64)  # all there are of 2 x 2


@pytest.mark.usefixtures("eager")
def test_the_networks_bound_is_the_papers():
    network = network_of()
    noise, states = network.noise(16), network.rnn.initial_state
    given = {"noise": noise, "image": IMAGES} | {n: s.expand(16, -1) for n, s in states.items()}
    W = gather(network.rnn, numbers(dict(network.rnn.cell.named_parameters())))
    canvas, _, (mu, log_sigma, *_) = oracle.draw(height=2, width=2, N_read=2, N_write=1, **numbers(given), **W)
    nll, kl = oracle.bound(canvas, IMAGES.numpy(), mu, log_sigma)
    drawing = network(IMAGES, noise)
    assert_equal(drawing.nll, nll, "nll")
    assert_equal(drawing.kl, kl, "kl")
    assert_equal(drawing.bound, nll + kl.sum(0), "bound")


def exact(network, points=60):
    """-log p(x) of every image: an integral over the two numbers of z, by Gauss and Hermite."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(points)
    z = torch.tensor(list(itertools.product(nodes, nodes)))
    p = torch.tensor([a * b for a, b in itertools.product(weights, weights)]) / (2 * math.pi)
    score = network.decode(z.T[:, :, None])[-1]
    logs = IMAGES[:, None] * score - torch.nn.functional.softplus(score)  # [images, points, pixels]
    return -(p * logs.sum(-1).exp()).sum(-1).log()


@torch.no_grad()
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("cell", [DRAW, AttentiveDRAW])
def test_the_bound_is_a_bound_and_more_samples_come_nearer(cell):
    network, rows = network_of(cell), 100
    images = IMAGES.repeat(rows, 1)

    def mean(values):
        values = values.view(rows, 16).mean(1)  # of all images, drawn anew `rows` times
        return values.mean().item(), values.std().item() / math.sqrt(rows)

    likelihood = exact(network)
    assert_equal((-likelihood).exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    truth = likelihood.mean().item()
    bound, error = mean(network(images).bound)
    estimates = [mean(network.estimate(images, k)) for k in (1, 4, 100)]
    assert bound - 3 * error > truth
    assert abs(estimates[0][0] - bound) < 4 * math.hypot(error, estimates[0][1])
    for (looser, e), (tighter, f) in itertools.pairwise(estimates):
        assert tighter < looser + 2 * math.hypot(e, f)
    last, error = estimates[-1]
    assert truth - 3 * error < last < truth + (bound - truth) / 3


@pytest.mark.usefixtures("eager")
def test_the_kl_is_never_negative_and_zero_where_posterior_and_prior_are_one():
    network = network_of()
    assert (network(IMAGES).kl >= 0).all()
    with torch.no_grad():
        for module in (network.rnn.cell.mean, network.rnn.cell.spread):
            for parameter in module.parameters():
                parameter.zero_()
    drawing = network(IMAGES)
    assert_equal(drawing.kl, torch.zeros(2, 16, dtype=torch.float64))
    assert_equal(drawing.ratio, torch.zeros(2, 16, dtype=torch.float64))


@pytest.mark.usefixtures("eager")
def test_a_small_kl_is_exact_in_float32():
    """What μ and log σ near 0 leave of it is not rounded to 0, nor below; a σ too small for the type is no infinity."""
    network = network_of(DRAW).float()
    mean, spread = network.rnn.cell.mean, network.rnn.cell.spread
    for mu, log_sigma in itertools.product((0.0, 1e-4, 0.02), (-120.0, -0.02, -3e-4, 1e-5, 1e-4, 0.01)):
        with torch.no_grad():
            for module, value in ((mean, mu), (spread, log_sigma)):
                module.weight_h_enc.zero_()
                module.bias.fill_(value)
        kl = network(IMAGES.float()).kl
        kl.sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
        assert kl.min() >= 0
        m, s = mean.bias.item(), spread.bias.item()
        exact = 0.5 * m * m + 0.5 * math.expm1(2 * s) - s
        assert s < -100 or (kl - exact).abs().max() <= 1e-6 * exact + 2e-7 * abs(s)  # σ itself is rounded


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("cell", [DRAW, AttentiveDRAW])
def test_the_decoder_alone_draws_what_the_network_draws_of_the_same_z(cell):
    network = network_of(cell)
    noise = network.noise(16)
    canvas, _, values = network.rnn(noise, image=IMAGES)
    z = values["mu"][0, 0] + values["log_sigma"][0, 0].exp() * noise
    assert_equal(network.decode(z), canvas)
    assert_equal(network(IMAGES, noise).canvas, canvas)


@pytest.mark.usefixtures("eager")
def test_the_same_generator_gives_the_same_noise():
    network = network_of()
    one, two = (network.estimate(IMAGES, 3, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two)
    one, two = (network.generate(4, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(one, network.decode(network.noise(4, torch.Generator().manual_seed(5))))
    assert one.shape == (2, 4, 4)


@pytest.mark.usefixtures("eager")
def test_estimates_and_what_is_generated_have_no_gradient():
    network = network_of()
    assert not network.estimate(IMAGES, 2).requires_grad
    assert not network.generate().requires_grad
    assert network(IMAGES).bound.requires_grad


@pytest.mark.usefixtures("eager")
def test_a_network_can_be_mapped_over_batches():
    """Under vmap, which sees many numbers in one, pixels are not checked."""
    network, noise = network_of(), torch.randn(3, 2, 16, 1, dtype=torch.float64)
    images = IMAGES.expand(3, 16, 4)
    found = torch.func.vmap(lambda image, epsilon: network(image, epsilon).bound)(images, noise)
    assert_equal(found, torch.stack([network(IMAGES, epsilon).bound for epsilon in noise]))


@pytest.mark.parametrize("option", ["height", "width", "encoder_size", "read_size", "write_size", "glimpses"])
def test_sizes_that_are_not_positive_are_refused(option):
    sizes = {"height": 4, "width": 4, "encoder_size": 3, "read_size": 2, "write_size": 2, "glimpses": 2}
    with pytest.raises(ValueError, match=f"{option} must be greater than zero, not 0"):
        DrawNetwork(AttentiveDRAW, latent_size=2, hidden_size=3, **{**sizes, option: 0})
    with pytest.raises(TypeError, match=f"{option} must be an integer, not 2.5"):
        DrawNetwork(AttentiveDRAW, latent_size=2, hidden_size=3, **{**sizes, option: 2.5})


def refusals(dtype=torch.float64):
    network, six = network_of(), torch.zeros(6, 4, dtype=dtype)
    return {
        "width": (lambda: network(six[:, :3]), ValueError, r"image must be \[B, 4\], not \[6, 3\]"),
        "rank": (lambda: network(six.view(6, 2, 2)), ValueError, r"image must be \[B, 4\], not \[6, 2, 2\]"),
        "array": (lambda: network(six.numpy()), TypeError, "image must be a tensor, not ndarray"),
        **{
            str(kind): (lambda kind=kind: network(six.to(kind)), ValueError, f"image is {kind}, but .* torch.float64")
            for kind in (torch.float32, torch.uint8, torch.bool)
        },
        "grey": (lambda: network(six + 255), ValueError, "must lie between 0 and 1, .* between 255 and 255"),
        "negative": (lambda: network(six - 0.1), ValueError, "must lie between 0 and 1, .* between -0.1 and -0.1"),
        "NaN": (lambda: network(six + math.nan), ValueError, "must lie between 0 and 1"),
        "noise's rows": (
            lambda: network(six, network.noise(3)),
            ValueError,
            r"epsilon must be \[2, 6, 1\], not \[2, 3, 1\]",
        ),
        "no glimpses": (lambda: network(six, network.noise(6)[:0]), ValueError, r"not \[0, 6, 1\]"),
        "noise's rank": (lambda: network(six, network.noise(6)[..., 0]), ValueError, r"not \[2, 6\]"),
        "noise's type": (lambda: network(six, network.noise(6).float()), ValueError, "epsilon is torch.float32, but"),
        "z's rank": (lambda: network.decode(network.noise(6)[0]), ValueError, r"z must be \[2, B, 1\], not \[6, 1\]"),
        "no z": (lambda: network.decode(network.noise(6)[:0]), ValueError, r"z must be \[2, B, 1\], not \[0, 6, 1\]"),
        "no rows": (lambda: network.generate(0), ValueError, "rows must be greater than zero, not 0"),
        "no samples": (lambda: network.estimate(six, 0), ValueError, "samples must be greater than zero, not 0"),
        "half a sample": (lambda: network.estimate(six, 2.5), TypeError, "samples must be an integer, not 2.5"),
        "samples in words": (lambda: network.estimate(six, "3"), TypeError, "samples must be an integer, not '3'"),
    }


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("what", refusals())
def test_what_cannot_be_drawn_is_refused(what):
    call, error, message = refusals()[what]
    with pytest.raises(error, match=message):
        call()


def test_a_cell_refuses_images_of_another_size():
    with pytest.raises(ValueError, match=r"image must be \[B, 12\], flattened from 3 x 4 pixels, not \[2, 9\]"):
        layer_of("without attention")(
            torch.zeros(T, B, LATENT, dtype=torch.float64), image=torch.zeros(B, 9, dtype=torch.float64)
        )
