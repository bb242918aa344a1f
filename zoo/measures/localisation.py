"""Localisation: are tokens most like the patch of the image that they came from?"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.measures.counts import best_within, count_draws
from zoo.measures.replicates import GROUPS, Replicates

PATCHES_AT_ONCE = 256


class HsicSums:
    """HSIC₁ of tokens with patches and of each with itself, summed over batches.

    `whole` is (tokens + 1, patches): that of each token with each patch, and in the last row that
    of each patch with itself. `tokens` (tokens,) is that of each token with itself. `without` is
    `whole` without each of `GROUPS` groups of images, image i in group i mod `GROUPS`, to first
    order: a group's share of the sum that HSIC₁ is, twice, since every product is of two images.
    That costs no more than the sum itself.
    """

    def __init__(self) -> None:
        self.images = 0
        self.whole: NDArray[np.float64] = np.zeros(())
        self.tokens: NDArray[np.float64] = np.zeros(())
        self.without: NDArray[np.float64] = np.zeros(())

    def add(self, tokens: torch.Tensor, patches: torch.Tensor, n: int) -> None:
        """Add a batch of n images, by U-centred Gram matrices (tokens, n²) and (patches, n²)."""
        group = (self.images + np.arange(n)) % GROUPS
        share = np.bincount(group, minlength=GROUPS) / n
        at = torch.from_numpy(group).to(tokens.device)
        rows, others = (grams.view(-1, n, n).transpose(0, 1) for grams in (tokens, patches))
        parts = []
        for some in others.split(PATCHES_AT_ONCE, dim=1):
            sums = tokens.new_zeros(GROUPS, len(tokens) + 1, some.shape[1])
            sums[:, :-1].index_add_(0, at, rows @ some.mT)  # of each image, by group
            sums[:, -1].index_add_(0, at, some.square().sum(dim=2))
            parts.append(sums)
        found, scale = torch.cat(parts, dim=2).cpu().numpy(), n * (n - 3)
        self.without = self.without + _without(found / scale, share)
        self.whole = self.whole + found.sum(axis=0) / scale
        self.tokens = self.tokens + (tokens.square().sum(dim=1) / scale).cpu().numpy()
        self.images += n

    def merge(self, other: HsicSums) -> None:
        """Add what another has gathered from the images after these."""
        if other.images:
            self.whole = self.whole + other.whole
            self.tokens = self.tokens + other.tokens
            # Its first image is the next one here.
            self.without = self.without + np.roll(other.without, self.images % GROUPS, axis=0)
            self.images += other.images

    @property
    def patches(self) -> NDArray[np.float64]:
        """HSIC₁ (patches,) of each patch with itself."""
        return self.whole[-1]

    def cka(self) -> NDArray[np.float64]:
        """Return CKA (tokens, patches); NaN where either never varied or was once not finite."""
        own = [np.where(np.greater(x, 0), x, np.nan) for x in (self.tokens, self.patches)]
        return np.asarray(self.whole[:-1] / np.sqrt(own[0])[:, None] / np.sqrt(own[1]))

    def scores(self, own: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return `localisation_score` and, after it, what it may be on other images.

        Args:
            own: (tokens,) each token's own patch.

        Returns:
            (1 + draws,), or NaN alone where the CKA of no token with its own patch is defined.
        """
        cka = self.cka()
        score = localisation_score(cka, own)
        if math.isnan(score):
            return np.array([score])
        tests = []
        for token, patch in enumerate(own.tolist()):
            known = np.flatnonzero(np.isfinite(cka[token]))
            if patch in known:
                tests.append(best_within(self._similarity(token, known), known == patch))
        return count_draws(round(score * len(tests)), tests) / len(tests)

    def _similarity(self, token: int, patches: NDArray[np.int64]) -> Replicates:
        """Return the similarity (patches,) of a token with some patches, in a unit of its own."""
        groups = min(GROUPS, self.images)
        cross, lengths = self.whole[[token, -1]][:, patches]
        without = self.without[:groups, [token, -1]][:, :, patches]
        whole = cross / np.sqrt(lengths)
        # To first order: without a group, a patch's own HSIC may be negative.
        moved = (without[:, 0] - cross) / np.sqrt(lengths) - whole / 2 * (
            without[:, 1] / lengths - 1
        )
        return Replicates(whole, whole + moved, np.full(groups, (groups - 1) / groups), groups - 1)


def _without(parts: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return HSIC₁ of a batch without each group's images, from their parts of it, (groups, …)."""
    whole, of = parts.sum(axis=0), share.reshape(-1, *[1] * (parts.ndim - 1))
    return np.asarray(whole - 2 * (parts - of * whole) / (1 - of))


def localisation_score(cka: NDArray[np.float64], own: NDArray[np.int64]) -> float:
    """Return the share of tokens whose most similar patch is their own.

    Args:
        cka: (tokens, patches); NaN where a token or a patch is constant.
        own: (tokens,) each token's own patch.

    Returns:
        The share of those tokens whose CKA with their own patch is defined, NaN where there are
        none. A constant patch is no token's best. Chance is one over the number of patches.

    Source: Raghu et al. 2021, Fig. 9, as a number.

    >>> localisation_score(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
    0.5
    """
    defined = np.isfinite(cka[np.arange(len(own)), own])
    if not defined.any():
        return math.nan
    best = np.where(np.isfinite(cka), cka, -np.inf)[defined].argmax(axis=1)
    return float((best == own[defined]).mean())
