"""Which models of a comparison a claim speaks of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, permutations, product

from zoo.claims.base import Networks
from zoo.models.spec import NO_SKIP, plain_arch
from zoo.study.results import ComparisonResults, Network

SIMILAR = 2  # parameters of one network over those of another; the paper's differ by 1.2


def each(models: Sequence[Network]) -> Iterable[Networks]:
    """Return every model."""
    return [(model,) for model in models]


def cnns(models: Sequence[Network]) -> Iterable[Networks]:
    """Return every CNN."""
    return [(cnn,) for cnn in _family(models, "cnn")]


def two_cnns(models: Sequence[Network]) -> Iterable[Networks]:
    """Return every two CNNs."""
    return combinations(_family(models, "cnn"), 2)


def vits(models: Sequence[Network]) -> Iterable[Networks]:
    """Return every ViT."""
    return [(vit,) for vit in _family(models, "vit")]


def vits_on_most_data(models: Sequence[Network]) -> Iterable[Networks]:
    """Return every ViT that was trained on more images than an equal one, and on the most."""
    pairs = list(_less_and_more(_family(models, "vit")))
    outdone = {less.name for less, _ in pairs}
    most = {more.name: more for _, more in pairs if more.name not in outdone}
    return [(vit,) for vit in most.values()]


def vit_and_cnn_on_most_data(models: Sequence[Network]) -> Iterable[Networks]:
    """Return every such ViT with every CNN that was trained on as many images."""
    most = list(vits_on_most_data(models))
    return [(v, c) for v, c in vit_and_cnn(models) if (v,) in most and v.images == c.images]


def cls_vits(models: Sequence[Network]) -> Iterable[Networks]:
    """Return every ViT whose classifier reads a class token."""
    return [(vit,) for vit in _family(models, "vit") if vit.class_token]


def vit_and_cnn(models: Sequence[Network]) -> Iterable[Networks]:
    """Return every ViT with every CNN; only those of the same training images, if there are any.

    What sets apart a ViT on little data from a CNN on much may be the data.
    """
    pairs = [(vit, cnn) for vit in _family(models, "vit") for cnn in _family(models, "cnn")]
    return [pair for pair in pairs if _same_data(*pair)] or pairs


def cls_vit_and_cnn(models: Sequence[Network]) -> Iterable[Networks]:
    """Return every ViT whose classifier reads a class token with every CNN."""
    return [(vit, cnn) for vit, cnn in vit_and_cnn(models) if vit.class_token]


def similar_vit_and_cnn_on_the_same_data(models: Sequence[Network]) -> Iterator[Networks]:
    """Yield every ViT with every CNN of similar size that was trained on the same images."""
    for vit, cnn in vit_and_cnn(models):
        sizes = sorted(model.parameters for model in (vit, cnn))
        if _same_data(vit, cnn) and sizes[1] <= SIMILAR * sizes[0]:
            yield vit, cnn


def cls_and_gap_vit(models: Sequence[Network]) -> Iterable[Networks]:
    """Return every ViT that reads a class token with every one that reads the tokens' mean.

    Both were trained on the same images.
    """
    return [
        (cls, gap)
        for cls, gap in permutations(_family(models, "vit"), 2)
        if cls.class_token and not gap.class_token and _same_data(cls, gap)
    ]


def vit_on_less_and_more(models: Sequence[Network]) -> Iterable[Networks]:
    """Return every pair of equal ViTs of which the second was trained on more images."""
    return _less_and_more(_family(models, "vit"))


def on_less_and_more(models: Sequence[Network]) -> Iterable[Networks]:
    """Return every pair of equal networks of which the second was trained on more images."""
    return _less_and_more([m for m in models if m.arch == plain_arch(m.arch)])


def both_on_less_and_more(models: Sequence[Network]) -> Iterable[Networks]:
    """Return (ViT on less, ViT on more, CNN on less, CNN on more), on the same two subsets."""
    vits, cnns = (_less_and_more(_family(models, family)) for family in ("vit", "cnn"))
    return [
        (*vit, *cnn)
        for vit, cnn in product(vits, cnns)
        if [model.subset_digest for model in vit] == [model.subset_digest for model in cnn]
    ]


def two_sizes_of_vit_on_less_and_more(models: Sequence[Network]) -> Iterable[Networks]:
    """Return (larger ViT on less, on more, smaller ViT on less, on more), on the same two subsets.

    Both take images of one size, and classify by a class token, or both by the mean of the tokens.
    """
    pairs = _less_and_more(_family(models, "vit"))
    return [
        (*larger, *smaller)
        for larger, smaller in permutations(pairs, 2)
        if larger[0].parameters > SIMILAR * smaller[0].parameters
        and [_but_for_size(model) for model in larger]
        == [_but_for_size(model) for model in smaller]
    ]


def without_skips_and_whole(models: Sequence[Network]) -> Iterator[Networks]:
    """Yield every ViT without a block's skips with the whole one, trained on the same images."""
    for without in models:
        match = NO_SKIP.match(without.arch)
        for whole in models:
            if match and whole.arch == match["arch"] and _same_data(without, whole):
                yield without, whole


def mixer_vit_and_cnn(models: Sequence[Network]) -> Iterable[Networks]:
    """Return every MLP-Mixer with every ViT and every CNN."""
    return [(mixer, *pair) for mixer, pair in product(_family(models, "mlp"), vit_and_cnn(models))]


# Which models these speak of depends on what each was trained on.
BY_TRAINING = {
    vits_on_most_data,
    vit_and_cnn_on_most_data,
    similar_vit_and_cnn_on_the_same_data,
    cls_and_gap_vit,
    vit_on_less_and_more,
    on_less_and_more,
    both_on_less_and_more,
    two_sizes_of_vit_on_less_and_more,
    without_skips_and_whole,
}


def groups_by_seed(results: ComparisonResults, group: Networks) -> list[Networks]:
    """Return a group of compared networks seed by seed, as often as all of them have seeds.

    Networks that would start from the same weights, which by itself makes them alike, are taken
    with different seeds wherever there are such: the same architecture on less and on more data.
    """
    each: list[tuple[Network, ...]] = []
    for network in group:
        seeds = results.seeds(network)
        turns = [seeds[turn:] + seeds[:turn] for turn in range(len(seeds))]
        apart = [turn for turn in turns if not any(_start_alike(turn, other) for other in each)]
        each.append((apart or turns)[0])
    return list(zip(*each, strict=False))


def _start_alike(ones: Sequence[Network], others: Sequence[Network]) -> bool:
    pairs = list(zip(ones, others, strict=False))
    return any(
        _network(a) == _network(b) and a.seed == b.seed and a.subset_digest for a, b in pairs
    )


def _family(models: Sequence[Network], family: str) -> list[Network]:
    """Return the models of a family; a control, such as one without skips, is not one of them."""
    return [m for m in models if m.family == family and m.arch == plain_arch(m.arch)]


def _same_data(a: Network, b: Network) -> bool:
    return bool(a.subset_digest) and a.subset_digest == b.subset_digest


def _but_for_size(vit: Network) -> tuple[object, ...]:
    # Of published weights only the number of images is known, whatever they are images of.
    return vit.class_token, vit.image_size, vit.subset_digest, vit.images


def _less_and_more(models: Sequence[Network]) -> Iterator[Networks]:
    for less, more in permutations(models, 2):
        if _network(less) == _network(more) and 0 < less.images < more.images:
            yield less, more


def _network(model: Network) -> tuple[object, ...]:
    # Of published weights only the number of images is known, whatever they are images of.
    source = model.source if model.subset_digest else ""
    return model.arch, model.kwargs, model.image_size, source
