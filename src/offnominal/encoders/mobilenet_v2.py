"""MobileNetV2 with torchvision's state-dict names.

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2.

"auto" does not take bfloat16 here: its rounding moves the features by 5 %.
"""

from __future__ import annotations

from offnominal.encoders.network import PIXELS, Add, Conv, GlobalMean, Linear, Network, Node, Normalise
from offnominal.encoders.resnet import IMAGENET_MEAN, IMAGENET_STD

# expansion, channels, blocks, stride of the first
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(name: str = "mobilenet_v2") -> Network:
    """The layer table of MobileNetV2.

    Levels are "0" (the stem), "1" … "17" the output of each inverted residual (4–6 stride 8, 7–13 stride 16,
    14–17 stride 32), "18" the last convolution, "pooled" and "logits".
    """
    nodes: list[Node] = [
        Normalise("image", PIXELS, IMAGENET_MEAN, IMAGENET_STD),
        _conv("features0", "image", "features.0", (3, 32), kernel=3, stride=2),
    ]
    taps = {"0": "features0"}
    channels, index = 32, 1
    for expansion, given, repeats, stride in _STAGES:
        for step in range(repeats):
            nodes += _block(index, nodes[-1].out, channels, given, stride if step == 0 else 1, expansion)
            taps[str(index)] = nodes[-1].out
            channels, index = given, index + 1
    nodes += [
        _conv(f"features{index}", nodes[-1].out, f"features.{index}", (channels, 1280)),
        GlobalMean("pooled", f"features{index}"),
        Linear("logits", "pooled", "classifier.1.weight", "classifier.1.bias", (1280, 1000)),
    ]
    taps |= {str(index): f"features{index}", "pooled": "pooled", "logits": "logits"}
    return Network(name, tuple(nodes), taps, ("10", "16"), 224)


def _conv(
    out: str,
    source: str,
    prefix: str,
    channels: tuple[int, int],
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
) -> Conv:
    return Conv(
        out,
        source,
        f"{prefix}.0.weight",
        channels,
        kernel=kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
        norm=f"{prefix}.1",
        activation="relu6",
    )


def _block(index: int, source: str, taken: int, given: int, stride: int, expansion: int) -> list[Node]:
    """Inverted residual: expand, depthwise, project, and the input added where shapes agree."""
    inside, prefix, name = taken * expansion, f"features.{index}.conv", f"features{index}"
    nodes: list[Node] = []
    if expansion != 1:
        nodes.append(_conv(f"{name}.expand", source, f"{prefix}.0", (taken, inside)))
    step = len(nodes)
    nodes.append(
        _conv(
            f"{name}.depthwise",
            nodes[-1].out if nodes else source,
            f"{prefix}.{step}",
            (inside, inside),
            kernel=3,
            stride=stride,
            groups=inside,
        )
    )
    nodes.append(
        Conv(
            f"{name}.project",
            f"{name}.depthwise",
            f"{prefix}.{step + 1}.weight",
            (inside, given),
            norm=f"{prefix}.{step + 2}",
        )
    )
    if stride == 1 and taken == given:
        nodes.append(Add(name, (source, f"{name}.project")))
    return nodes
