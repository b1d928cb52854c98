"""Gradients with respect to an input, written as a forward computation that can be exported.

A runtime has no automatic differentiation, and methods that score by a gradient need one at detection.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

Back = Callable[[torch.Tensor], torch.Tensor]


def pullback(module: nn.Module, inputs: torch.Tensor) -> tuple[torch.Tensor, Back]:
    """Outputs of a module in evaluation mode, and what turns a gradient by them into one by its inputs.

    Parameters
    ----------
    module : module
        A `Sequential`, possibly nested, of convolutions whose strides divide their inputs, transposed
        convolutions, batch normalisation, ReLU, linear layers, `Flatten`, `Unflatten` and `Identity`.
    inputs : tensor (n, …)

    Returns
    -------
    outputs : tensor (n, …)
    back : callable
        ``back(gradient)``: outputs' shape → inputs' shape.

    Raises
    ------
    TypeError
        A layer of another kind.
    """
    if isinstance(module, nn.Sequential):
        backs: list[Back] = []
        for part in module:
            inputs, back = pullback(part, inputs)
            backs.append(back)

        def through(gradient: torch.Tensor) -> torch.Tensor:
            for back in reversed(backs):
                gradient = back(gradient)
            return gradient

        return inputs, through
    outputs: torch.Tensor = module(inputs)
    return outputs, _back(module, inputs)


def _back(module: nn.Module, inputs: torch.Tensor) -> Back:
    """The transposed derivative of one layer at its inputs."""
    if isinstance(module, nn.Conv2d):
        if isinstance(module.padding, str):
            raise TypeError(f"a convolution needs its padding in numbers, got {module.padding!r}")
        weight, stride, margins = module.weight, module.stride, module.padding
        return lambda g: functional.conv_transpose2d(g, weight, None, stride, margins)
    if isinstance(module, nn.ConvTranspose2d):
        weight, stride, padding = module.weight, module.stride, module.padding
        return lambda g: functional.conv2d(g, weight, None, stride, padding)
    if isinstance(module, nn.BatchNorm2d):
        assert module.running_var is not None
        rate = module.weight / (module.running_var + module.eps).sqrt()
        return lambda g: g * rate.reshape(1, -1, 1, 1)
    if isinstance(module, nn.Linear):
        return lambda g: g @ module.weight
    if isinstance(module, nn.ReLU):
        open_ = (inputs > 0).to(inputs.dtype)
        return lambda g: g * open_
    if isinstance(module, nn.Flatten | nn.Unflatten):
        shape = inputs.shape
        return lambda g: g.reshape(shape)
    if isinstance(module, nn.Identity):
        return lambda g: g
    raise TypeError(f"no derivative of {type(module).__name__} is written down")
