"""Images without some of their patches, or with their tiles in another order."""

from __future__ import annotations

import torch


def random_order(count: int, places: int, *, seed: int) -> torch.Tensor:
    """Return an order (count, places) of the places of each of some images, at random."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, places, generator=generator).argsort(dim=1)


def drop_patches(
    pixels: torch.Tensor,
    order: torch.Tensor,
    share: float,
    *,
    grid: tuple[int, int],
    fill: torch.Tensor,
) -> torch.Tensor:
    """Return images without the first patches of an order.

    Args:
        pixels: (n, channels, height, width).
        order: (n, places) the patches of the grid, row by row, in the order in which they go.
        share: of the patches that go, 0 to 1; a whole number of them, rounded.
        grid: how many rows and columns of patches there are.
        fill: (channels,) what stands in their place, such as a model's black.

    Source: Naseer et al. 2021, Sec. 3.1 (PatchDrop), whose dropped patches are black.
    """
    n, places = order.shape
    gone = torch.zeros(n, places, dtype=torch.bool)
    gone.scatter_(1, order[:, : round(share * places)].cpu(), True)
    # Where sides do not divide, patches differ by a pixel.
    sides = zip(grid, pixels.shape[2:], strict=True)
    rows, columns = (torch.arange(s) * count // s for count, s in sides)
    mask = gone.view(n, *grid)[:, rows][:, :, columns].to(pixels.device)
    return torch.where(mask[:, None], fill.to(pixels).view(1, -1, 1, 1), pixels)


def shuffle_tiles(pixels: torch.Tensor, tiles: int, *, seed: int) -> torch.Tensor:
    """Return images cut into tiles × tiles parts, which are put together in a random order.

    Args:
        pixels: (n, channels, side, side).
        tiles: along a side; must divide it.
        seed: of the orders, another one for each image.

    Raises:
        ValueError: tiles that do not divide the side.

    Source: Naseer et al. 2021, Sec. 3.4, who use one order for a whole batch.
    """
    n, channels, height, width = pixels.shape
    if height % tiles or width % tiles:
        raise ValueError(f"expected tiles that divide {height} × {width} pixels, got {tiles}")
    cut = pixels.reshape(n, channels, tiles, height // tiles, tiles, width // tiles)
    cut = cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    order = random_order(n, tiles * tiles, seed=seed).to(pixels.device)
    moved = cut[torch.arange(n, device=pixels.device)[:, None], order]
    return moved.unflatten(1, (tiles, tiles)).permute(0, 3, 1, 4, 2, 5).reshape(pixels.shape)
