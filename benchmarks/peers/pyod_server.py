"""Runs PyOD's detectors in their own environment: one JSON task a line in, one JSON answer a line out.

Keys of a task: ``split`` (npz with ``train`` and ``test``), ``detector`` (a key of ``CLASSES``),
``parameters``, ``out`` (npy for the test scores; left out where only times are asked for). The answer has
``fit_s``, ``score_s`` (processor seconds) and ``versions``, or ``error``. Imports nothing of offnominal.
"""

from __future__ import annotations

import inspect
import json
import sys
import time
import warnings
from functools import lru_cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

CLASSES = {
    "abod": ("abod", "ABOD"),
    "cblof": ("cblof", "CBLOF"),
    "cof": ("cof", "COF"),
    "copod": ("copod", "COPOD"),
    "ecod": ("ecod", "ECOD"),
    "feature_bagging": ("feature_bagging", "FeatureBagging"),
    "gmm": ("gmm", "GMM"),
    "hbos": ("hbos", "HBOS"),
    "iforest": ("iforest", "IForest"),
    "inne": ("inne", "INNE"),
    "kde": ("kde", "KDE"),
    "knn": ("knn", "KNN"),
    "loda": ("loda", "LODA"),
    "lof": ("lof", "LOF"),
    "mcd": ("mcd", "MCD"),
    "ocsvm": ("ocsvm", "OCSVM"),
    "pca": ("pca", "PCA"),
    "sod": ("sod", "SOD"),
}
VERSIONS = {name: version(name) for name in ("pyod", "numpy", "scipy", "scikit-learn", "numba")}


@lru_cache(maxsize=1)
def read(path: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return stored["train"], stored["test"]


def made(name: str, parameters: dict[str, Any], seed: int | None) -> Any:
    module, title = CLASSES[name]
    cls = getattr(import_module(f"pyod.models.{module}"), title)
    if seed is not None and "random_state" in inspect.signature(cls.__init__).parameters:
        parameters = {"random_state": seed, **parameters}
    return cls(**parameters)


def answer(task: dict[str, Any]) -> dict[str, Any]:
    train, test = read(task["split"])
    np.random.seed(task.get("seed") or 0)  # noqa: NPY002 - some of the peer's detectors draw from the global generator
    detector = made(task["detector"], task.get("parameters") or {}, task.get("seed"))
    began = time.process_time()
    detector.fit(train)
    fitted = time.process_time()
    scores = np.asarray(detector.decision_function(test), dtype=np.float64)
    scored = time.process_time()
    if task.get("out"):
        np.save(task["out"], scores)
    return {"fit_s": fitted - began, "score_s": scored - fitted, "versions": VERSIONS}


def main() -> None:
    warnings.filterwarnings("ignore")
    say = sys.stdout
    sys.stdout = sys.stderr  # what a detector prints is no answer
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as error:  # whatever the peer raises is its answer
            found = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), file=say, flush=True)


if __name__ == "__main__":
    main()
