"""offnominal finds what is off-normal in data of any kind, shows where, and says how sure it is.

>>> import offnominal as off
>>> detector = off.make("patchcore").fit("parts/good")  # doctest: +SKIP
>>> for found in detector.detect("parts/new"):  # doctest: +SKIP
...     print(found.item, found.score, found.p_value, found.anomalous)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"
__all__ = ["Detector", "__version__", "catalogue", "load", "make"]

_HOMES = {
    "Detector": "offnominal.detector",
    "catalogue": "offnominal.core.card",
    "load": "offnominal.persistence",
    "make": "offnominal.persistence",
}

if TYPE_CHECKING:
    from offnominal.core.card import catalogue
    from offnominal.detector import Detector
    from offnominal.persistence import load, make


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import offnominal` itself stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'offnominal' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
