"""EfficientNet-Lite 0 to 4: EfficientNet without squeeze-and-excitation, ReLU6, fixed stem and head.

Source: Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019 (stage
table and scaling); the Lite variant as published with TensorFlow's TPU models, 2020. State-dict names are
those of the PyTorch conversion by ML Illustrated.

"auto" does not take bfloat16 here: its rounding moves the features by 4 to 10 %, as it does in torch, and a
plain memory bank on magnetic tiles lost .005 image AUROC with single scores off by up to 14 %.
"""

from __future__ import annotations

import math

from offnominal.encoders.network import PIXELS, Add, Conv, GlobalMean, Linear, Network, Node, Normalise

# width and depth multiplier, native side
VARIANTS = {
    "efficientnet_lite0": (1.0, 1.0, 224),
    "efficientnet_lite1": (1.0, 1.1, 240),
    "efficientnet_lite2": (1.1, 1.2, 260),
    "efficientnet_lite3": (1.2, 1.4, 280),
    "efficientnet_lite4": (1.4, 1.8, 300),
}
# blocks, kernel, stride, expansion, channels: the stages of EfficientNet-B0
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_EPSILON = 1e-3
_CLASSES = 1000


def _rounded(channels: float) -> int:
    """Nearest multiple of eight, never more than a tenth below."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def efficientnet_lite(name: str) -> Network:
    """The layer table of one EfficientNet-Lite.

    Levels are "stem", "0" … the zero-based output of each block (of 21 for Lite2: 4–6 stride 8, 7–10 and
    11–14 stride 16, 15–20 stride 32), "head", "pooled" and "logits".
    """
    width, depth, native = VARIANTS[name]
    nodes: list[Node] = [
        Normalise("image", PIXELS, (127.0,) * 3, (128.0,) * 3),
        Conv(
            "stem",
            "image",
            "_conv_stem.weight",
            (3, 32),
            kernel=3,
            stride=2,
            padding="same",
            norm="_bn0",
            epsilon=_EPSILON,
            activation="relu6",
        ),
    ]
    taps = {"stem": "stem"}
    ends: list[int] = []
    channels, block = 32, 0
    for stage, (repeats, kernel, stride, expansion, base) in enumerate(_STAGES):
        given = _rounded(base * width)
        fixed = stage in (0, len(_STAGES) - 1)  # Lite scales neither the first nor the last stage's depth
        for step in range(repeats if fixed else math.ceil(repeats * depth)):
            nodes += _block(
                block, nodes[-1].out, channels, given, kernel, stride if step == 0 else 1, expansion
            )
            taps[str(block)] = nodes[-1].out
            channels, block = given, block + 1
        ends.append(block - 1)
    nodes += [
        Conv(
            "head",
            nodes[-1].out,
            "_conv_head.weight",
            (channels, 1280),
            norm="_bn1",
            epsilon=_EPSILON,
            activation="relu6",
        ),
        GlobalMean("pooled", "head"),
        Linear("logits", "pooled", "_fc.weight", "_fc.bias", (1280, _CLASSES)),
    ]
    taps |= {last: last for last in ("head", "pooled", "logits")}
    # the ends of both stride-16 stages and of the wide stride-32 stage: where, and whether
    return Network(name, tuple(nodes), taps, tuple(str(ends[stage]) for stage in (3, 4, 5)), native)


def _block(
    index: int, source: str, taken: int, given: int, kernel: int, stride: int, expansion: int
) -> list[Node]:
    """Inverted residual block: expand, depthwise, project, and the input added where shapes agree."""
    inside, prefix, name = taken * expansion, f"_blocks.{index}", f"block{index}"
    nodes: list[Node] = []
    if expansion != 1:
        nodes.append(
            Conv(
                f"{name}.expand",
                source,
                f"{prefix}._expand_conv.weight",
                (taken, inside),
                norm=f"{prefix}._bn0",
                epsilon=_EPSILON,
                activation="relu6",
            )
        )
    nodes += [
        Conv(
            f"{name}.depthwise",
            nodes[-1].out if nodes else source,
            f"{prefix}._depthwise_conv.weight",
            (inside, inside),
            kernel=kernel,
            stride=stride,
            padding="same",
            groups=inside,
            norm=f"{prefix}._bn1",
            epsilon=_EPSILON,
            activation="relu6",
        ),
        Conv(
            f"{name}.project",
            f"{name}.depthwise",
            f"{prefix}._project_conv.weight",
            (inside, given),
            norm=f"{prefix}._bn2",
            epsilon=_EPSILON,
        ),
    ]
    if stride == 1 and taken == given:
        nodes.append(Add(name, (source, f"{name}.project")))
    return nodes
