"""What a network learns from besides labels: a trained network's answers, or its features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from zoo.errors import UserError
from zoo.models.files import LoadedModel
from zoo.models.preprocess import in_order_for
from zoo.models.spec import ModelSpec

# Of logits (n, classes), with the batch's labels.
Criterion = Callable[[torch.Tensor], torch.Tensor]
# Of the network in training, its input (n, 3, height, width) and the criterion: logits and loss.
Objective = Callable[[Any, torch.Tensor, Criterion], tuple[torch.Tensor, torch.Tensor]]
# Those of the papers: DeiT's hard distillation, and locality guidance.
TOKEN_WEIGHT, FEATURE_WEIGHT = 0.5, 2.5


def make_objective(
    teacher: LoadedModel | None, module: nn.Module, spec: ModelSpec, device: torch.device
) -> Objective:
    """Return what a network is trained for.

    Args:
        teacher: None for labels alone. A network with a distillation token learns the teacher's
            answers, any other ViT imitates its features.
        module: the network before training; what it needs for training is added to it, and
            `end_objective` takes it away.
        spec: says how images become its input.
        device: where it is trained.

    Raises:
        UserError: the teacher cannot teach this network.
    """
    if teacher is None:
        return learn_labels
    _check_teacher(teacher, module, spec)
    asked = _Teacher(teacher, spec, device)
    if hasattr(module, "set_distilled_training"):
        return AnswerObjective(asked, module)
    return FeatureObjective(asked, module)


def end_objective(module: Any) -> None:
    """Remove from a trained network what only its training needed."""
    if hasattr(module, "set_distilled_training"):
        module.set_distilled_training(False)
    if hasattr(module, "guides"):
        del module.guides


def learn_labels(
    module: Any, x: torch.Tensor, criterion: Criterion
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and their loss."""
    logits = module(x)
    return logits, criterion(logits)


class AnswerObjective:
    """Labels for the class token, a teacher's answers for the distillation token.

    loss = 1/2 criterion(class logits) + 1/2 cross-entropy(distilled logits, teacher's class).
    Source: hard distillation, Touvron et al. 2021 (2012.12877).
    """

    def __init__(self, teacher: _Teacher, module: Any) -> None:
        self.teacher = teacher
        module.set_distilled_training(True)

    def __call__(
        self, module: Any, x: torch.Tensor, criterion: Criterion
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the class token's logits and the loss."""
        logits, distilled = module(x)
        answers = self.teacher.answers(x)
        loss = (1 - TOKEN_WEIGHT) * criterion(logits)
        return logits, loss + TOKEN_WEIGHT * functional.cross_entropy(distilled.float(), answers)


class FeatureObjective:
    """Labels, and the maps of a ResNet's four stages to imitate.

    Each stage guides one block (the first the first, the last the last, the others evenly between):
    by the mean squared difference of its map and of a learnt linear map of the block's tokens, both
    on the finer of the two grids; loss = criterion + 2.5 · their sum. The linear maps belong to
    training: they are the network's `guides` until it ends. Source: locality guidance, Li et al.
    2022 (2207.10026).
    """

    def __init__(self, teacher: _Teacher, module: Any) -> None:
        self.teacher = teacher
        channels = [info["num_chs"] for info in teacher.module.feature_info[1:]]  # after the stem
        spread = torch.linspace(0, len(module.blocks) - 1, len(channels))
        self.blocks = [round(block) for block in spread.tolist()]
        module.guides = nn.ModuleList(nn.Conv2d(module.embed_dim, c, 1) for c in channels)

    def __call__(
        self, module: Any, x: torch.Tensor, criterion: Criterion
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and the loss."""
        tokens, maps = module.forward_intermediates(x, indices=sorted({*self.blocks}))
        logits = module.forward_head(tokens)
        of_block = dict(zip(sorted({*self.blocks}), maps, strict=True))
        guided = [
            map_difference(guide(of_block[block]), stage)
            for guide, block, stage in zip(
                module.guides, self.blocks, self.teacher.stages(x), strict=True
            )
        ]
        return logits, criterion(logits) + FEATURE_WEIGHT * torch.stack(guided).sum()


class _Teacher:
    """A trained network, asked about a student's input."""

    def __init__(self, teacher: LoadedModel, spec: ModelSpec, device: torch.device) -> None:
        self.module: Any = teacher.module.to(device).eval()
        mine, its = (torch.tensor([s.mean, s.std], device=device) for s in (spec, teacher.spec))
        self.scale = (mine[1] / its[1])[:, None, None]
        self.shift = ((mine[0] - its[0]) / its[1])[:, None, None]

    @torch.no_grad()
    def answers(self, x: torch.Tensor) -> torch.Tensor:
        """Return the most probable class (n,) of each input."""
        seen = in_order_for(self.module, x * self.scale + self.shift)
        return self.module(seen).argmax(dim=1)

    @torch.no_grad()
    def stages(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the maps (n, channels, height, width) of a ResNet's stages."""
        count = len(self.module.feature_info) - 1
        seen = x * self.scale + self.shift
        return self.module.forward_intermediates(seen, indices=count, intermediates_only=True)


def map_difference(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the mean squared difference of two maps (n, channels, height, width).

    Both are first resized, bilinearly, to the larger height and width of the two.
    """
    size = [max(sides) for sides in zip(a.shape[-2:], b.shape[-2:], strict=True)]
    a, b = (functional.interpolate(part.float(), size, mode="bilinear") for part in (a, b))
    return functional.mse_loss(a, b)


def _check_teacher(teacher: LoadedModel, module: nn.Module, spec: ModelSpec) -> None:
    from timm.models.resnet import ResNet
    from timm.models.vision_transformer import VisionTransformer

    def cannot(expected: str, got: object) -> UserError:
        return UserError(f"{teacher.name} cannot teach {spec.name}: expected {expected}, got {got}")

    size = teacher.spec.image_size
    if size != spec.image_size:
        raise cannot(f"a teacher that sees images of {spec.image_size} px", f"{size} px")
    if hasattr(module, "set_distilled_training"):
        if teacher.spec.class_names != spec.class_names:
            raise cannot("a teacher of the same classes", teacher.spec.class_names[:3])
    elif not isinstance(module, VisionTransformer):
        raise cannot("a ViT as the network that learns features", spec.arch)
    elif not isinstance(teacher.module, ResNet):
        raise cannot("a ResNet as the teacher of features", teacher.spec.arch)
