"""ResNet-18, -34, -50 and Wide ResNet-50-2 with torchvision's state-dict names.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1; Zagoruyko & Komodakis,
"Wide Residual Networks", BMVC 2016. In a bottleneck the stride lies in the 3 × 3 convolution, as in the
published torch weights.
"""

from __future__ import annotations

from offnominal.encoders.network import (
    PIXELS,
    Add,
    Conv,
    GlobalMean,
    Linear,
    MaxPool,
    Network,
    Node,
    Normalise,
)

# ImageNet's channel means and deviations, in units of 0…255
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)

# blocks a stage, bottleneck, width factor of the bottleneck
VARIANTS = {
    "resnet18": ((2, 2, 2, 2), False, 1),
    "resnet34": ((3, 4, 6, 3), False, 1),
    "resnet50": ((3, 4, 6, 3), True, 1),
    "wide_resnet50_2": ((3, 4, 6, 3), True, 2),
}


def resnet(name: str) -> Network:
    """The layer table of one residual network.

    Levels are "stem" (stride 4), "layer1" … "layer4" (stride 4, 8, 16, 32), "layer1.0" … each block's output,
    "pooled" and "logits".
    """
    repeats, bottleneck, width = VARIANTS[name]
    nodes: list[Node] = [
        Normalise("image", PIXELS, IMAGENET_MEAN, IMAGENET_STD),
        _conv("conv1", "image", "conv1", "bn1", (3, 64), kernel=7, stride=2, activation="relu"),
        MaxPool("stem", "conv1", 3, 2, 1),
    ]
    taps = {"stem": "stem"}
    channels = 64
    for stage, blocks in enumerate(repeats, start=1):
        base = 64 << (stage - 1)
        for index in range(blocks):
            prefix, stride = f"layer{stage}.{index}", 2 if stage > 1 and index == 0 else 1
            if bottleneck:
                nodes += _bottleneck(prefix, nodes[-1].out, channels, base, base * width, stride)
            else:
                nodes += _basic(prefix, nodes[-1].out, channels, base, stride)
            channels = base * 4 if bottleneck else base
            taps[prefix] = prefix
        taps[f"layer{stage}"] = taps[f"layer{stage}.{blocks - 1}"]
    nodes += [
        GlobalMean("pooled", nodes[-1].out),
        Linear("logits", "pooled", "fc.weight", "fc.bias", (channels, 1000)),
    ]
    taps |= {"pooled": "pooled", "logits": "logits"}
    # measured: 0.4 to 0.6 % between bfloat16 and fp32 patch features of the default levels (random weights)
    return Network(name, tuple(nodes), taps, ("layer2", "layer3"), 224, bf16=True)


def _conv(
    out: str,
    source: str,
    weight: str,
    norm: str,
    channels: tuple[int, int],
    kernel: int = 1,
    stride: int = 1,
    activation: str | None = None,
) -> Conv:
    return Conv(
        out,
        source,
        f"{weight}.weight",
        channels,
        kernel=kernel,
        stride=stride,
        padding=kernel // 2,
        norm=norm,
        activation=activation,
    )


def _shortcut(prefix: str, source: str, taken: int, given: int, stride: int) -> tuple[list[Node], str]:
    """The identity, or a strided 1 × 1 convolution where the shape changes."""
    if stride == 1 and taken == given:
        return [], source
    out = f"{prefix}.shortcut"
    down = f"{prefix}.downsample"
    return [_conv(out, source, f"{down}.0", f"{down}.1", (taken, given), stride=stride)], out


def _basic(prefix: str, source: str, taken: int, given: int, stride: int) -> list[Node]:
    nodes: list[Node] = [
        _conv(
            f"{prefix}.conv1",
            source,
            f"{prefix}.conv1",
            f"{prefix}.bn1",
            (taken, given),
            kernel=3,
            stride=stride,
            activation="relu",
        ),
        _conv(
            f"{prefix}.conv2", f"{prefix}.conv1", f"{prefix}.conv2", f"{prefix}.bn2", (given, given), kernel=3
        ),
    ]
    extra, other = _shortcut(prefix, source, taken, given, stride)
    return [*nodes, *extra, Add(prefix, (f"{prefix}.conv2", other), "relu")]


def _bottleneck(prefix: str, source: str, taken: int, base: int, inside: int, stride: int) -> list[Node]:
    given = base * 4
    nodes: list[Node] = [
        _conv(
            f"{prefix}.conv1",
            source,
            f"{prefix}.conv1",
            f"{prefix}.bn1",
            (taken, inside),
            activation="relu",
        ),
        _conv(
            f"{prefix}.conv2",
            f"{prefix}.conv1",
            f"{prefix}.conv2",
            f"{prefix}.bn2",
            (inside, inside),
            kernel=3,
            stride=stride,
            activation="relu",
        ),
        _conv(f"{prefix}.conv3", f"{prefix}.conv2", f"{prefix}.conv3", f"{prefix}.bn3", (inside, given)),
    ]
    extra, other = _shortcut(prefix, source, taken, given, stride)
    return [*nodes, *extra, Add(prefix, (f"{prefix}.conv3", other), "relu")]
