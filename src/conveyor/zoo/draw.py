"""DRAW: a recurrent variational autoencoder that draws an image over several glimpses, with and without attention."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, cat, exp, sigmoid, stack

from conveyor.cell.cell import Cell, check_sizes
from conveyor.zoo.draw_window import Filterbanks, read, write
from conveyor.zoo.lstm import LSTM

Painted = tuple[Tensor, ...]  # the canvas and the decoder's two states after a glimpse; with attention also the window


class DRAW(Cell):
    """DRAW without attention: a variational autoencoder that draws over T glimpses (Gregor et al. 2015).

        rnn = conveyor.Recurrent(zoo.DRAW, latent, hidden, height=8, width=8)
        c, state, values = rnn(noise, image=image)       # noise: [T, B, latent], image: [B, 64], c: [T, B, 64]

    x̂_t = x - σ(c_{t-1}),  r_t = [x, x̂_t],
    h_enc_t = LSTM_enc(h_enc_{t-1}, [r_t, h_dec_{t-1}]),
    μ_t = W_μ · h_enc_t + b_μ,  log σ_t = W_σ · h_enc_t + b_σ,  z_t = μ_t + σ_t * ε_t,
    h_dec_t = LSTM_dec(h_dec_{t-1}, z_t),  c_t = c_{t-1} + W_c · h_dec_t + b_c

    The paper's image x is the constant `image`, flattened row by row, with pixels between 0 and 1. The stream `x` is
    the noise ε_t, standard normal. σ(c_T) is the probability of each pixel. `hidden_size` is the decoder's width,
    `encoder_size` the encoder's, by default the same. The extra outputs are μ and log σ. In the paper c_0, h_enc_0 and
    h_dec_0 are learned: pass `learn_initial_state=True` to the layer.

    Shapes: ε, z, μ, σ [B, latent]; image, x̂, c [B, height * width]; r [B, 2 * height * width]; h_enc, C_enc
    [B, encoder]; h_dec, C_dec [B, hidden]; W_μ, W_σ [latent, encoder]; W_c [height * width, hidden].
    Paper: Gregor, Danihelka, Graves, Rezende & Wierstra 2015, "DRAW: A Recurrent Neural Network For Image Generation".
    Departures: with a learned initial state, the C_0 of the memory cells are learned as well.
    Doubt: the equations are from memory, and so is the choice of LSTM: with a forget gate, without peepholes, as in the
    essay.

    Raises ValueError for sizes that are not positive and for images of another size.
    """

    state = ("c", "h_enc", "C_enc", "h_dec", "C_dec")
    constant = ("image",)
    extra: ClassVar[tuple[str, ...]] = ("mu", "log_sigma")

    def __init__(self, input_size: int, hidden_size: int, height: int, width: int, encoder_size: int | None = None):
        encoder = hidden_size if encoder_size is None else encoder_size
        height, width, encoder = check_sizes(height=height, width=width, encoder_size=encoder)
        pixels = height * width
        super().__init__(input_size, hidden_size, c=pixels, image=pixels, h_enc=encoder, C_enc=encoder)
        self.height, self.width = height, width
        self.encoder = LSTM(self.read_width() + hidden_size, encoder)
        self.decoder = LSTM(input_size, hidden_size)
        self.mean = self.affine("h_enc", out=input_size)
        self.spread = self.affine("h_enc", out=input_size)
        self.write = self.affine("h_dec", out=self.write_width())

    def read_width(self) -> int:
        """The width of r."""
        return 2 * self.height * self.width

    def write_width(self) -> int:
        """The width of what the decoder writes."""
        return self.height * self.width

    def step(
        self, x: Tensor, c: Tensor, h_enc: Tensor, C_enc: Tensor, h_dec: Tensor, C_dec: Tensor, image: Tensor
    ) -> tuple[Tensor, ...]:
        self.check(image)
        r, *read_window = self.look(image, image - sigmoid(c), h_dec)
        h_enc, C_enc = self.encoder.step(cat([r, h_dec], -1), h_enc, C_enc)
        mu, log_sigma = self.mean(h_enc), self.spread(h_enc)
        z = mu + exp(log_sigma) * x
        c, h_dec, C_dec, *write_window = self.paint(z, c, h_dec, C_dec)
        return c, h_enc, C_enc, h_dec, C_dec, mu, log_sigma, *read_window, *write_window

    def look(self, image: Tensor, x_hat: Tensor, h_dec: Tensor) -> tuple[Tensor, ...]:
        """The reading r of the image and of the error image x̂; with attention also the window, [B, 5]."""
        return (cat([image, x_hat], -1),)

    def paint(self, z: Tensor, c: Tensor, h_dec: Tensor, C_dec: Tensor) -> Painted:
        """The decoder's half of the step. With z sampled from the prior it generates an image."""
        h_dec, C_dec = self.decoder.step(z, h_dec, C_dec)
        c = c + self.write(h_dec)
        return c, h_dec, C_dec

    def check(self, image: Tensor) -> None:
        """Raises ValueError unless the image has height * width pixels."""
        if image.shape[-1] != self.height * self.width:
            raise ValueError(
                f"image must be [B, {self.height * self.width}], flattened from {self.height} x {self.width} pixels, "
                f"not {list(image.shape)}: scale the images, or create the cell with their height and width"
            )


class AttentiveDRAW(DRAW):
    """DRAW with attention: it reads and writes through windows of variable position and zoom (Gregor et al. 2015).

        rnn = conveyor.Recurrent(zoo.AttentiveDRAW, latent, hidden, height=8, width=8, read_size=3, write_size=3)

    r_t = γ [F_y · x · F_xᵀ, F_y · x̂_t · F_xᵀ]               a window given by W · h_dec_{t-1} + b, see `Filterbanks`
    c_t = c_{t-1} + F̂_yᵀ · w_t · F̂_x / γ̂,  w_t = W_w · h_dec_t + b_w    another, given by Ŵ · h_dec_t + b̂

    The rest as in DRAW. The two windows are extra outputs: the centre g_x, g_y, the stride δ and the width σ of the
    filters, all in pixels, and the intensity γ.

    Shapes: as in DRAW, but x, x̂ and c are [B, height, width] here; F_y [B, read, height], F_x [B, read, width], F̂ the
    same with write; r [B, 2 * read * read]; w [B, write, write]; the windows [B, 5]; W [5, hidden];
    W_w [write * write, hidden].
    Paper: Gregor et al. 2015, sections 3.2 and 3.3.
    Departures: log σ² is clamped to at least -40, where a filter is one pixel.
    Doubt: from memory; on the origin of the coordinates see `Filterbanks`.
    """

    extra = ("mu", "log_sigma", "read_window", "write_window")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        height: int,
        width: int,
        read_size: int,
        write_size: int,
        encoder_size: int | None = None,
    ):
        read_size, write_size = check_sizes(read_size=read_size, write_size=write_size)
        self.read_size, self.write_size = read_size, write_size
        super().__init__(input_size, hidden_size, height, width, encoder_size)
        self.read_place = self.affine("h_dec", out=5)
        self.write_place = self.affine("h_dec", out=5)
        self.read_filters = Filterbanks(read_size, height, width)
        self.write_filters = Filterbanks(write_size, height, width)

    def read_width(self) -> int:
        return 2 * self.read_size**2

    def write_width(self) -> int:
        return self.write_size**2

    def look(self, image: Tensor, x_hat: Tensor, h_dec: Tensor) -> tuple[Tensor, ...]:
        F_y, F_x, gamma, window = self.read_filters(self.read_place(h_dec))
        return gamma * read(stack([image, x_hat], 1), F_y, F_x).flatten(1), window

    def paint(self, z: Tensor, c: Tensor, h_dec: Tensor, C_dec: Tensor) -> Painted:
        h_dec, C_dec = self.decoder.step(z, h_dec, C_dec)
        F_y, F_x, gamma, window = self.write_filters(self.write_place(h_dec))
        c = c + write(self.write(h_dec), F_y, F_x) / gamma
        return c, h_dec, C_dec, window
