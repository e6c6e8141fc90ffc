"""One small cell for each operation that a step may be made of, in each of its spellings."""

import linecache
import re
import zlib

import torch
import torch.nn.functional as F
from torch import nn

import conveyor

# Each operation with its spellings, of values `a` and `b` [B, H]. Behind "with" stands what the cell holds for it.
OPERATORS = {
    "add": ("a + b", "torch.add(a, b)", "a.add(b)"),
    "add a number": ("a + 2", "2 + a", "a + 2.0"),
    "subtract": ("a - b", "torch.sub(a, b)", "a.sub(b)"),
    "subtract a number": ("a - 0.5",),
    "subtract from a number": ("1 - a", "1.0 - a"),
    "multiply": ("a * b", "torch.mul(a, b)", "a.mul(b)"),
    "multiply with itself": ("a * a", "a.square()", "torch.square(a)"),
    "multiply by a number": ("a * 0.3", "0.3 * a"),
    "negate": ("-a", "torch.neg(a)", "a.neg()"),
    "divide by a number": ("a / 3", "torch.div(a, 3)"),
    "greater": ("torch.where(a > b, a, 2 * b)", "torch.where(b < a, a, 2 * b)", "torch.where(a.gt(b), a, 2 * b)"),
    "greater or equal": ("torch.where(a >= b, a, 2 * b)", "torch.where(torch.ge(a, b), a, 2 * b)"),
    "equal": ("torch.where(a == b, a, 2 * b)", "torch.where(a != b, 2 * b, a)"),
    "greater than a number": ("torch.where(a > 0, a, b)", "torch.where(0 < a, a, b)"),
    "where with a number": ("torch.where(a > 0.5, a, 0.0)", "torch.where(a <= 0.5, 0.0, a)"),
    "both": ("torch.where((a > 0) & (b > 0), a, b)",),
    "either": ("torch.where((a > 0) | (b > 0), a, b)",),
    "not": ("torch.where(~(a > 0), a, b)",),
    "comparison as a number": ("(a > b) * a", "(a > b).to(a.dtype) * a"),
    "minimum": ("torch.minimum(a, b)", "torch.min(a, b)", "a.minimum(b)"),
    "maximum": ("torch.maximum(a, b)", "torch.max(a, b)", "a.maximum(b)"),
    "clamp": (
        "torch.clamp(a, -1, 0.5)",
        "a.clamp(-1, 0.5)",
        "torch.clamp(a, min=-1, max=0.5)",
        "torch.clip(a, -1, 0.5)",
    ),
    "clamp from below": ("torch.clamp(a, min=0.5)", "a.clamp(min=0.5)", "a.clamp_min(0.5)"),
    "clamp from above": ("torch.clamp(a, max=0.5)", "a.clamp_max(0.5)"),
}
FUNCTIONS = {
    "sigmoid": ("torch.sigmoid(a)", "a.sigmoid()", "F.sigmoid(a)", "self.m(a) with m = nn.Sigmoid()"),
    "tanh": ("torch.tanh(a)", "a.tanh()", "F.tanh(a)", "self.m(a) with m = nn.Tanh()"),
    "relu": ("torch.relu(a)", "a.relu()", "F.relu(a)", "self.m(a) with m = nn.ReLU()"),
    "leaky_relu": ("F.leaky_relu(a)", "F.leaky_relu(a, 0.01)", "self.m(a) with m = nn.LeakyReLU()"),
    "leaky_relu, steep": ("F.leaky_relu(a, negative_slope=0.3)", "self.m(a) with m = nn.LeakyReLU(0.3)"),
    "elu": ("F.elu(a)", "self.m(a) with m = nn.ELU()"),
    "elu, 0.5": ("F.elu(a, alpha=0.5)", "F.elu(a, 0.5)", "self.m(a) with m = nn.ELU(0.5)"),
    "softplus": ("F.softplus(a)", "self.m(a) with m = nn.Softplus()"),
    "softplus, sharp": ("F.softplus(a, beta=2, threshold=3)", "self.m(a) with m = nn.Softplus(2, 3)"),
    "gelu": ("F.gelu(a)", "self.m(a) with m = nn.GELU()"),
    "gelu by tanh": ("F.gelu(a, approximate='tanh')", "self.m(a) with m = nn.GELU('tanh')"),
    "silu": ("F.silu(a)", "self.m(a) with m = nn.SiLU()"),
    "sin": ("torch.sin(a)", "a.sin()"),
    "cos": ("torch.cos(a)", "a.cos()"),
    "exp": ("torch.exp(a)", "a.exp()"),
    "abs": ("torch.abs(a)", "a.abs()", "abs(a)"),
    "sign": ("torch.sign(a) * b", "a.sign() * b"),
    "second power": ("a ** 2", "torch.pow(a, 2)", "a.pow(2)"),
    "third power": ("a ** 3", "a.pow(3)"),
    "hardsigmoid": ("F.hardsigmoid(a)", "self.m(a) with m = nn.Hardsigmoid()"),
    "hardtanh": ("F.hardtanh(a)", "self.m(a) with m = nn.Hardtanh()"),
    "hardtanh, wide": ("F.hardtanh(a, -2, 0.5)", "self.m(a) with m = nn.Hardtanh(-2, 0.5)"),
    "LSTMCell": ("torch.add(*self.m(a, (b, a))) with m = nn.LSTMCell(H, H)",),
    "GRUCell": ("self.m(a, b) with m = nn.GRUCell(H, H)",),
    "GRUCell without bias": ("self.m(a, b) with m = nn.GRUCell(H, H, bias=False)",),
    "RNNCell": ("self.m(a, b) with m = nn.RNNCell(H, H)",),
    "RNNCell, relu": ("self.m(a, b) with m = nn.RNNCell(H, H, nonlinearity='relu')",),
    "functions in a row": ("self.m(a) with m = nn.Sequential(nn.Linear(H, 5), nn.Tanh(), nn.Linear(5, H))",),
}
POSITIVE = {  # of positive a and b only
    "divide": ("a / b", "torch.div(a, b)", "a.div(b)"),
    "divide a number": ("1 / a", "1.0 / a", "a ** -1", "torch.reciprocal(a)", "a.reciprocal()"),
    "log": ("torch.log(a)", "a.log()"),
    "sqrt": ("torch.sqrt(a)", "a.sqrt()", "a ** 0.5"),
    "one by sqrt": ("torch.rsqrt(a)", "a.rsqrt()", "a ** -0.5"),
    "power 1.5": ("a ** 1.5", "torch.pow(a, 1.5)"),
}
SHAPES = {
    "cat": ("torch.cat([a, b], dim=-1)", "torch.cat((a, b), 1)", "torch.concat([a, b], -1)"),
    "cat of parts": ("torch.cat([b[:, 3:], a, b[:, :3]], 1)",),
    "chunk": ("a.chunk(2, dim=-1)[1]", "torch.chunk(a, 2, -1)[1]"),
    "chunks": ("(lambda c, d: c * d)(*torch.cat([a, b], -1).chunk(2, -1))",),
    "split": ("a.split([2, H - 2], dim=-1)[1]", "torch.split(a, [2, H - 2], -1)[1]"),
    "split evenly": ("a.split(5, -1)[2]",),
    "slice": ("a[:, :3]", "a[..., :3]"),
    "slice from behind": ("a[:, -3:]",),
    "slice by steps": ("a[:, ::2]", "a[..., ::2]", "a[:, 0::2]"),
    "odd ones": ("a[:, 1::2]",),
    "column": ("a[:, 2].unsqueeze(-1) * b", "a[:, 2][:, None] * b", "a[:, 2:3] * b", "a.select(1, 2).unsqueeze(1) * b"),
    "narrow": ("a.narrow(1, 2, 5)", "a[:, 2:7]"),
    "stack": ("torch.stack([a, b], dim=1).flatten(1)", "torch.stack((a, b), 1).reshape(-1, 2 * H)"),
    "stack behind": ("torch.stack([a, b], dim=-1).flatten(1)", "torch.stack([a, b], 2).flatten(start_dim=1)"),
    "unbind": ("torch.stack([a, b], 1).unbind(1)[1]", "torch.stack([a, b], 1)[:, 1]"),
    "view": ("torch.cat([a, b], -1).view(-1, 2, H)[:, 1]", "torch.cat([a, b], -1).reshape(-1, 2, H)[:, 1]"),
    "view by the batch": ("torch.cat([a, b], -1).view(a.shape[0], 2, -1)[:, 1]",),
    "unflatten": (
        "torch.cat([a, b], -1).unflatten(-1, (H, 2))[..., 1]",
        "torch.cat([a, b], 1).unflatten(1, (-1, 2))[..., 1]",
    ),
    "flatten": ("(torch.stack([a, b], 1) * 2).flatten(1)", "(torch.stack([a, b], 1) * 2).flatten(-2)"),
    "outer product": ("(a.unsqueeze(-1) * b.unsqueeze(1)).flatten(1)", "(a[:, :, None] * b[:, None, :]).flatten(1)"),
    "squeeze": ("(a.unsqueeze(1) * b.unsqueeze(1)).squeeze(1)", "(a[:, None] * b[:, None]).squeeze(-2)"),
    "expand": ("(a.unsqueeze(1).expand(-1, 3, -1) * self.v).flatten(1) with v = matrix(3, H)",),
    "transpose": (
        "torch.stack([a, b], 1).transpose(1, 2).flatten(1)",
        "torch.stack([a, b], 1).permute(0, 2, 1).flatten(1)",
    ),
}
REDUCTIONS = {
    "sum": ("a.sum(-1)[:, None]", "a.sum(-1, keepdim=True)", "torch.sum(a, dim=1).unsqueeze(1)"),
    "sum over heads": ("torch.stack([a, b], 1).sum(1)", "torch.stack([a, b], 1).sum(dim=-2)"),
    "sum over everything": ("torch.stack([a, b], 1).sum((1, 2))[:, None]",),
    "mean": ("a - a.mean(-1, keepdim=True)", "a - torch.mean(a, dim=-1).unsqueeze(-1)"),
    "amax": ("a.amax(-1, keepdim=True)", "a.amax(dim=1)[:, None]", "torch.amax(a, -1, keepdim=True)"),
    "norm": (
        "a.norm(dim=-1, keepdim=True)",
        "a.norm(2, -1)[:, None]",
        "torch.linalg.vector_norm(a, dim=-1, keepdim=True)",
    ),
    "normed": ("a / a.norm(dim=-1, keepdim=True)",),
    "var": ("a.var(-1, keepdim=True)", "torch.var(a, dim=-1, keepdim=True)", "a.var(-1)[:, None]"),
    "var of all there are": ("a.var(-1, correction=0, keepdim=True)", "a.var(-1, unbiased=False, keepdim=True)"),
    "softmax": (
        "torch.softmax(a, -1)",
        "a.softmax(dim=-1)",
        "F.softmax(a, dim=1)",
        "self.m(a) with m = nn.Softmax(-1)",
    ),
    "softmax over heads": ("torch.stack([a, b], 1).softmax(1).flatten(1)",),
    "log_softmax": ("torch.log_softmax(a, -1)", "F.log_softmax(a, -1)", "self.m(a) with m = nn.LogSoftmax(-1)"),
    "logsumexp": ("torch.logsumexp(a, -1, keepdim=True)", "a.logsumexp(-1)[:, None]"),
    "layer_norm": ("F.layer_norm(a, (H,))", "self.m(a) with m = nn.LayerNorm(H, elementwise_affine=False)"),
    "layer_norm, learned": (
        "self.m(a) with m = nn.LayerNorm(H)",
        "F.layer_norm(a, [H], self.m.weight, self.m.bias) with m = nn.LayerNorm(H)",
    ),
    "layer_norm without bias": ("self.m(a) with m = nn.LayerNorm(H, eps=0.01, bias=False)",),
    "layer_norm of each head": ("self.m(torch.stack([a, b], 1)).flatten(1) with m = nn.LayerNorm(H)",),
    "rms_norm": ("F.rms_norm(a, (H,))", "self.m(a) with m = nn.RMSNorm(H, elementwise_affine=False)"),
    "rms_norm, learned": ("self.m(a) with m = nn.RMSNorm(H, eps=0.01)",),
}
PRODUCTS = {
    "linear": (
        "self.m(a) with m = nn.Linear(H, 5)",
        "F.linear(a, self.m.weight, self.m.bias) with m = nn.Linear(H, 5)",
    ),
    "linear without bias": ("self.m(a) with m = nn.Linear(H, 5, bias=False)", "a @ self.W.t() with W = matrix(5, H)"),
    "matmul": (
        "a @ self.W with W = matrix(H, 5)",
        "torch.matmul(a, self.W) with W = matrix(H, 5)",
        "torch.mm(a, self.W) with W = matrix(H, 5)",
    ),
    "matmul of a product": ("(a * b) @ self.W with W = matrix(H, 5)",),
    "matmul of matmul": (
        "torch.tanh(torch.tanh(a @ self.W) @ self.V) @ self.W with W = matrix(H, 5); V = matrix(5, H)",
    ),
    "matmul of a slice": ("a[:, 2:7] @ self.W with W = matrix(5, 4)",),
    "product with a vector": (
        "(a @ self.v)[:, None] with v = matrix(H)",
        "torch.mv(a, self.v).unsqueeze(1) with v = matrix(H)",
    ),
    "addmm": ("torch.addmm(self.c, a, self.W) with W = matrix(H, 5); c = matrix(5)",),
    "affine": ("self.m(a) with m = self.affine('u', out=5)",),
    "affine of two": ("self.m(a, b) with m = self.affine('u', 'w', out=5)",),
    "affine, diagonal": ("self.m(a, b) with m = self.affine('u', 'w', u='diagonal')",),
    "triangle": (
        "F.linear(a, self.W * self.mask) with W = matrix(H, H); mask = torch.ones(H, H).tril()",
        "a @ (self.W * self.mask).t() with W = matrix(H, H); mask = torch.ones(H, H).tril()",
    ),
    "heads": (
        "torch.einsum('bhi,hij->bhj', torch.stack([a, b], 1), self.W).flatten(1) with W = matrix(2, H, 3)",
        "(torch.stack([a, b], 1).unsqueeze(2) @ self.W).squeeze(2).flatten(1) with W = matrix(2, H, 3)",
        "torch.matmul(torch.stack([a, b], 1)[:, :, None], self.W)[:, :, 0].flatten(1) with W = matrix(2, H, 3)",
    ),
    "heads in a loop": ("torch.cat([v @ self.W[i] for i, v in enumerate((a, b))], -1) with W = matrix(2, H, 3)",),
    "heads by einsum of rows": ("torch.einsum('bi,ji->bj', a, self.W) with W = matrix(5, H)",),
    "scores": (
        "(K @ a.unsqueeze(-1)).squeeze(-1)",
        "torch.einsum('bsd,bd->bs', K, a)",
        "torch.bmm(K, a.unsqueeze(2)).squeeze(2)",
        "(a.unsqueeze(1) @ K.transpose(1, 2)).squeeze(1)",
    ),
    "weighted sum": ("torch.einsum('bs,bsd->bd', a[:, :4], K)", "(a[:, :4].unsqueeze(1) @ K).squeeze(1)"),
    "attention": (
        "torch.einsum('bs,bsd->bd', torch.softmax((K @ a.unsqueeze(-1)).squeeze(-1), -1), V)",
        "(torch.softmax((K * a[:, None]).sum(-1), -1)[:, :, None] * V).sum(1)",
    ),
    "outer product and matmul": (
        "((a.unsqueeze(-1) * b.unsqueeze(1)) @ a.unsqueeze(-1)).squeeze(-1)",
        "torch.einsum('bi,bj,bj->bi', a, b, a)",
    ),
}
PARAMETERS = {
    "vector": ("a * self.v with v = matrix(H)",),
    "row": ("a * self.v with v = matrix(1, H)",),
    "number": ("a * self.v with v = matrix()", "self.v * a with v = matrix()"),
    "one": ("a * self.v with v = matrix(1)", "a * self.v with v = matrix(1, 1)"),
    "number of each head": ("(torch.stack([a, b], 1) * self.v).flatten(1) with v = matrix(2, 1)",),
    "function of parameters": ("torch.sigmoid(self.v) * a + (1 - torch.sigmoid(self.v)) * b with v = matrix(H)",),
    "buffer": ("a * self.v with v = torch.arange(H) % 2.0",),
    "softmax of parameters": ("torch.softmax(self.v, -1) * a with v = matrix(H)",),
    "element": ("a * self.v[1] + self.v[0] * b with v = matrix(2)",),
    "list": ("a * self.v[0] + b * self.v[1] with v = nn.ParameterList([matrix(H), matrix(1, H)])",),
}
NUMBERED = {
    "every third step": ("torch.where(t % 3 == 0, a, b)", "torch.where(torch.remainder(t, 3) == 0, a, b)"),
    "periods": ("torch.where(t % self.v == 0, a, b) with v = torch.arange(H) % 4 + 1",),
    "fading": ("a / (t + 1)", "a / (1 + t)"),
    "phase": ("torch.cos(self.v * t) * a with v = matrix(H)",),
    "first steps": ("torch.where(t < 2, a, b)", "torch.where(t >= 2, b, a)"),
    "half": ("torch.where((t // 2) % 2 == 0, a, b)",),
}
TABLES = (OPERATORS, FUNCTIONS, POSITIVE, SHAPES, REDUCTIONS, PRODUCTS, PARAMETERS, NUMBERED)
OPS = {name: spellings for table in TABLES for name, spellings in table.items()}
assert len(OPS) == sum(map(len, TABLES)), "two operations of one name"
# The spellings that are not the same operations as their first, but others that give the same.
APART = {
    "torch.where(a != b, 2 * b, a)",
    "torch.where(a <= 0.5, 0.0, a)",
    "a ** -0.5",
    "a - torch.mean(a, dim=-1).unsqueeze(-1)",
    "a.norm(2, -1)[:, None]",
    "a.var(-1)[:, None]",
    "a.logsumexp(-1)[:, None]",
    "a @ self.W.t() with W = matrix(5, H)",
    *PRODUCTS["heads"][1:],
    "torch.einsum('bsd,bd->bs', K, a)",
    "(a.unsqueeze(1) @ K.transpose(1, 2)).squeeze(1)",
    "(a[:, :4].unsqueeze(1) @ K).squeeze(1)",
    "(torch.softmax((K * a[:, None]).sum(-1), -1)[:, :, None] * V).sum(1)",
    "torch.einsum('bi,bj,bj->bi', a, b, a)",
    "self.v * a with v = matrix()",
    "a * self.v with v = matrix(1, 1)",
    "torch.where(t >= 2, b, a)",
}

SHAPED = {"K": (4,), "V": (4,)}  # constants with rows of their own, [B, 4, H]

# Where the loop is not exact, what it must equal: PyTorch has the slope of hardsigmoid in float32 only, 1.0f / 6.
EXACT = {"hardsigmoid": "torch.clamp(torch.where(a.abs() >= 3, a.detach(), a) / 6 + 0.5, 0, 1)"}


def op_cell(spelling):
    """The class whose output state `y` is the operation's result.

    It is fed by the other state a step later, so that gradients go back through it over the steps. Its operands are the
    streams `u` and `w` times an affine map, which are the streams themselves when that map is made to give one.
    """
    expression, _, held = spelling.partition(" with ")
    read = re.sub(r"'[^']*'", "", expression)  # without the letters in einsum's formulas
    streams = {"a": "u", "b": "w"}
    operands = [name for name in streams if re.search(rf"\b{name}\b", read)]
    others = [*map(streams.get, operands), *(name for name in ("K", "V", "t") if re.search(rf"\b{name}\b", read))]
    lines = [f"{name} = {streams[name]} * self.{name}(h, x)" for name in operands]
    lines += ["H = self.hidden_size"] if re.search(r"\bH\b", read) else []
    lines += [f"v = {expression}", "h = torch.tanh(self.mix(h, x, y))", "return v, h"]
    source = f"def step(self, x, y, h, {', '.join(others)}):\n    " + "\n    ".join(lines) + "\n"
    file = f"<cell of {spelling} {zlib.crc32(source.encode())}>"
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    scope = {"torch": torch, "F": F}
    exec(compile(source, file, "exec"), scope)

    def make(self, input_size, hidden_size):
        conveyor.Cell.__init__(self, input_size, hidden_size, u=hidden_size, w=hidden_size)
        hold(self, held)
        for name in operands:
            operand = self.affine("h", "x")
            with torch.no_grad():  # near one, so that what is positive stays so
                for parameter in operand.parameters():
                    parameter.mul_(0.2)
                operand.bias.fill_(1)
            setattr(self, name, operand)
        self.widths["y"] = width(self, expression)
        self.mix = self.affine("h", "x", "y")

    members = {"state": ("y", "h"), "constant": tuple({"K", "V"} & set(others)), "source": source}
    return type("OpCell", (conveyor.Cell,), members | {"step": scope["step"], "__init__": make})


def hold(cell, held):
    """What stands behind "with" becomes the cell's own."""
    scope = {"torch": torch, "nn": nn, "matrix": matrix, "H": cell.hidden_size, "self": cell}
    for part in filter(None, held.split("; ")):
        name, _, value = part.partition(" = ")
        made = eval(value, scope)
        if isinstance(made, torch.Tensor) and not isinstance(made, nn.Parameter):
            cell.register_buffer(name, made)
        else:
            setattr(cell, name, made)


def width(cell, expression):
    """The width of the operation's result."""
    H = cell.hidden_size
    values = {"a": torch.ones(2, H), "b": torch.ones(2, H), "K": torch.ones(2, 4, H), "V": torch.ones(2, 4, H)}
    return eval(expression, {"torch": torch, "F": F, "self": cell, "H": H, "t": torch.tensor(0), **values}).shape[1]


def matrix(*shape):
    return nn.Parameter(torch.randn(shape) / (1, *shape)[-1] ** 0.5)


def driven(*names, constant=()):
    """A cell with a stream of each of these names, two wide; some of them may be constant."""
    given = ", ".join(names)
    text = f"def step(self, x, h, {given}):\n    return torch.tanh(self.map(h, x, {given}))\n"
    file, space = f"driven by {given}", {"torch": torch}
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    exec(compile(text, file, "exec"), space)

    def init(self, input_size, hidden_size):
        conveyor.Cell.__init__(self, input_size, hidden_size, **dict.fromkeys(names, 2))
        self.map = self.affine("h", "x", *names)

    return type("Driven", (conveyor.Cell,), {"step": space["step"], "__init__": init, "constant": constant})
