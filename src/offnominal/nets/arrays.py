"""A network's state as named numpy arrays, the form in which detectors keep what they learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from offnominal.core.errors import ModelRefused


def to_arrays(module: torch.nn.Module) -> dict[str, npt.NDArray[Any]]:
    """Copy all parameters and buffers into arrays.

    Returns
    -------
    dict of str to ndarray
        Named as in ``module.state_dict()``. Kept in an attribute such as ``network_``, `Detector.save`
        stores it.

    Raises
    ------
    TypeError
        A value numpy has no type for, such as bfloat16.
    """
    return {name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()}


def load_arrays(module: torch.nn.Module, arrays: Mapping[str, npt.NDArray[Any]]) -> torch.nn.Module:
    """Put arrays that `to_arrays` made back into a module of the same build; return it.

    Raises
    ------
    ModelRefused
        Names, shapes or types are not those of the module.
    """
    wanted = module.state_dict()
    if odd := sorted(set(wanted) ^ set(arrays)):
        raise ModelRefused(f"the stored network is of another build ({', '.join(odd[:4])}); fit it again")
    state: dict[str, torch.Tensor] = {}
    for name, target in wanted.items():
        array = np.array(arrays[name])  # a copy: training goes on in place
        if target.ndim == 0 and array.shape == (1,):
            array = array.reshape(())  # a file keeps a lone number as a row of one
        value = torch.from_numpy(array)
        if value.shape != target.shape or value.dtype != target.dtype:
            raise ModelRefused(
                f"the stored network's {name} is {tuple(value.shape)} {value.dtype}, "
                f"not {tuple(target.shape)} {target.dtype}; fit it again"
            )
        state[name] = value
    module.load_state_dict(state)
    return module
