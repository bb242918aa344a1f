"""HSIC of all pairs of layers, without each group of images: what intervals of CKA rest on."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.measures.linear_cka import pairwise_hsic
from zoo.measures.replicates import GROUPS, Replicates


class HsicReplicates:
    """Collects HSIC of all pairs of layers batch by batch, and what it is without each group."""

    def __init__(self, *, batches: int, layers: int) -> None:
        # Asked for once: small arrays kept from each batch would lie scattered between the
        # activations, and the memory of these could not be used again.
        self._groups = max(2, math.ceil(GROUPS / batches))
        self._each = np.empty((batches, layers, layers))
        self._without = np.empty((batches, self._groups, layers, layers))
        self._divided: list[int] = []  # how many groups each batch has

    def add(self, grams: torch.Tensor) -> NDArray[np.float64]:
        """Take a batch's U-centred Gram matrices (layers, n²) and return its HSIC."""
        n, batch = round(grams.shape[1] ** 0.5), len(self._divided)
        # At least four images must be left without any group.
        groups = min(self._groups, n) if n >= 8 else 0
        self._each[batch] = hsic = pairwise_hsic(grams, n).cpu().numpy()
        for group in range(groups):  # image i belongs to group i mod `groups`
            self._without[batch, group] = hsic_among(grams, hsic, np.arange(n) % groups != group)
        self._divided.append(groups)
        return hsic

    def merge(self, other: HsicReplicates) -> None:
        """Add the batches that another has gathered."""
        here, there = len(self._divided), len(other._divided)
        self._each[here : here + there] = other._each[:there]
        self._without[here : here + there] = other._without[:there]
        self._divided += other._divided

    def result(self) -> Replicates:
        """Return HSIC averaged over batches, and the same without each group of images."""
        count = len(self._divided)
        whole = self._each[:count].mean(axis=0)
        without, weight = [np.empty((0, *whole.shape))], []
        for hsic, left, groups in zip(self._each, self._without, self._divided, strict=False):
            if groups:
                without.append(whole + (left[:groups] - hsic) / count)
                weight += [(groups - 1) / groups] * groups
            elif count > 1:  # too few images to divide: the batch is left out whole
                without.append(((whole * count - hsic) / (count - 1))[None])
                weight.append((count - 1) / count)
        freedom = sum(max(groups - 1, 0) for groups in self._divided)
        freedom += max(self._divided.count(0) - 1, 0)
        return Replicates(whole, np.concatenate(without), np.array(weight), freedom)


def hsic_among(
    grams: torch.Tensor, whole: NDArray[np.float64], kept: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return HSIC of all pairs of layers, (layers, layers), among some of a batch's images.

    Args:
        grams: (layers, n²) U-centred Gram matrices of all images.
        whole: (layers, layers) their HSIC.
        kept: (n,) which images, at least 4.

    It is exact: centring the rest of a centred matrix again gives what centring the rest of the
    Gram matrix itself gives. The products over the rest are those over all images less those over
    the rows left out; rows of the rest sum to minus what they have left out.
    """
    n, m, gone = len(kept), int(kept.sum()), torch.from_numpy(~kept).to(grams.device)
    rows = grams.view(-1, n, n)[:, gone]
    corner, sums = rows[:, :, gone].flatten(1), rows.sum(dim=1)[:, ~gone]
    rows, total = rows.flatten(1), sums.sum(dim=1)
    change = corner @ corner.T - 2 * (rows @ rows.T) - 2 / (m - 2) * (sums @ sums.T)
    change += torch.outer(total, total) / ((m - 1) * (m - 2))
    return np.asarray((whole * (n * (n - 3)) + change.cpu().numpy()) / (m * (m - 3)))
