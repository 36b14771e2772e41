"""The orthogonality of convolution kernels (Eq. 2; Wang et al., CVPR 2020), exact and cheap.

For a kernel K of k x k taps and a shift d, a multiple of the stride, let
G_d = sum over the taps p of K_p K_{p+d}^T, where K_p is (O, C) and taps outside the kernel are
zero. The loss is the Frobenius norm of all R_d = G_d minus the identity at d = 0. Its gradient is
2 / loss x sum over d of R_d K_{p+d}, made of the same matrices along with the value.

- G_{-d} is the transpose of G_d: half of the shifts suffice; each needs the overlapping taps alone.
- At stride 1 the shifts are those of an autocorrelation: by Parseval's theorem the loss is the same
  sum over the frequencies of a (2k - 1) x (2k - 1) grid, half of which suffice, and takes a third
  fewer products.

`docs/decisions/015-orthogonality.md` has the counts and the measurements.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

NARROW_FROM = 1 << 18  # weights of a kernel; below it, bfloat16 saves no time


def orthogonality(convolutions: Sequence[nn.Conv2d], *, bf16: bool = False) -> Tensor:
    """Sum of the orthogonality losses of convolutions: a float32 scalar.

    For a k x k kernel K of stride s: the Frobenius norm of conv2d(K, K, stride s, padding P) minus
    the identity at the zero shift, P = floor((k - 1) / s) * s; for 1 x 1: of W W^T - I on the
    smaller side.

    Args:
        bf16: multiply large kernels in bfloat16, as autocast does for the other products of a
            training step; moves the value by about 1e-5, the gradient by about 4e-3 of its length.
    """
    terms = [
        _of(c.weight, c.stride[0], bf16 and c.weight.numel() >= NARROW_FROM) for c in convolutions
    ]
    return torch.stack(terms).sum()


def _of(kernel: Tensor, stride: int, narrow: bool) -> Tensor:
    loss: Tensor = _Orthogonality.apply(kernel, stride, narrow)  # type: ignore[no-untyped-call]
    return loss


class _Orthogonality(torch.autograd.Function):
    """The loss of one kernel; the gradient is made along with the value and kept for `backward`."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, stride: int, narrow: bool) -> Tensor:
        kind = torch.bfloat16 if narrow else torch.float32
        made = _by_frequencies if stride == 1 and kernel.shape[-1] > 1 else _by_shifts
        with torch.autocast(kernel.device.type, enabled=False), torch.no_grad():
            square, slope = made(kernel.float(), stride, kind)
        loss = square.clamp(min=0.0).sqrt()
        ctx.save_for_backward(slope, loss)
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        slope, loss = ctx.saved_tensors
        return slope * torch.where(loss > 0, 2.0 * upstream[0] / loss, 0.0), None, None


# shifts ----------------------------------------------------------------------------------------


def _by_shifts(kernel: Tensor, stride: int, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """The squared loss of a kernel (O, C, k, k), and a quarter of the square's gradient."""
    out, width, k, _ = kernel.shape
    if turned := k == 1 and out > width:  # 1 x 1: the smaller side
        kernel, (out, width) = kernel.transpose(0, 1), (width, out)
    factors = kernel.permute(0, 2, 3, 1).reshape(out, -1).to(kind)  # tap by tap
    slope = torch.zeros_like(factors)
    square = torch.zeros((), device=kernel.device)
    for number, runs in enumerate(_overlaps(k, stride)):
        pairs = [
            (slice(a * width, (a + n) * width), slice(b * width, (b + n) * width))
            for a, b, n in runs
        ]
        gram = factors[:, pairs[0][0]] @ factors[:, pairs[0][1]].T
        for a, b in pairs[1:]:
            gram.addmm_(factors[:, a], factors[:, b].T)
        if number == 0:
            gram.diagonal().sub_(1.0)
        square += _square(gram) * (1.0 if number == 0 else 2.0)
        for a, b in pairs:
            slope[:, a].addmm_(gram, factors[:, b])
            if number > 0:
                slope[:, b].addmm_(gram.T, factors[:, a])
    spread = slope.float().view(out, k, k, width).permute(0, 3, 1, 2)
    return square, spread.transpose(0, 1) if turned else spread


def _overlaps(k: int, stride: int) -> Iterator[list[tuple[int, int, int]]]:
    """For the zero shift, then one of each pair of opposite shifts: runs of taps that overlap, as
    (first tap, first tap of the shifted copy, number of taps), taps numbered row by row.
    """
    reach = (k - 1) // stride * stride
    for dy in range(0, reach + 1, stride):
        for dx in range(-reach if dy else 0, reach + 1, stride):
            if dx == 0:  # whole rows: one run
                yield [(0, dy * k, (k - dy) * k)]
            else:
                left, right = max(0, -dx), max(0, dx)
                yield [(y * k + left, (y + dy) * k + right, k - abs(dx)) for y in range(k - dy)]


def _square(gram: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(gram, dim=-1, dtype=torch.float32)
    return norms.square().sum()


# frequencies -----------------------------------------------------------------------------------


def _by_frequencies(kernel: Tensor, stride: int, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """As `_by_shifts`, at stride 1.

    With X the transform of the taps at a frequency, G = X X^H and the slope is R X; the real
    frequency 0 comes first, each other one stands for itself and its conjugate.
    """
    out, width, k, _ = kernel.shape
    cosines, sines = _waves(k, kernel.device)
    taps = kernel.permute(2, 3, 0, 1).reshape(k * k, -1)
    re = (cosines @ taps).view(-1, out, width).to(kind)
    im = (sines @ taps).view(-1, out, width).to(kind)
    r_re = re @ re.mT
    r_re[1:].baddbmm_(im, im.mT)
    r_re.diagonal(dim1=1, dim2=2).sub_(1.0)
    r_im = (im @ re[1:].mT).baddbmm_(re[1:], im.mT, alpha=-1)
    share = 1.0 / (2 * k - 1) ** 2
    d_re = r_re @ re
    d_re[1:].baddbmm_(r_im, im, alpha=-1)
    d_im = (r_re[1:] @ im).baddbmm_(r_im, re[1:])
    weights = torch.full((len(re), 1), 2.0 * share, device=kernel.device)
    weights[0] = share
    slope = (cosines * weights).T @ d_re.float().flatten(1)
    slope.addmm_((sines * weights[1:]).T, d_im.float().flatten(1))
    if kind == torch.bfloat16:  # <R, G> = |R|^2 + tr R, which spares a pass over all R
        square = torch.sum(slope * taps) - torch.sum(taps * taps) + out
    else:
        square = share * (_square(r_re[0]) + 2.0 * (_square(r_re[1:]) + _square(r_im)))
    return square, slope.view(k, k, out, width).permute(2, 3, 0, 1)


def _waves(k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines (F, k k) and sines (F - 1, k k) of the taps at one of each pair of opposite
    frequencies on the grid of 2k - 1 by 2k - 1, the zero frequency first.
    """
    n = 2 * k - 1
    halves = [(u, v) for u in range(k) for v in range(n) if u > 0 or v < k]
    angles = torch.tensor(
        [
            [
                2.0 * math.pi * ((u * y + v * x) % n) / n
                for y, x in itertools.product(range(k), range(k))
            ]
            for u, v in halves
        ],
        dtype=torch.float64,
    )
    return angles.cos().float().to(device), angles[1:].sin().float().to(device)
