"""Which parts of an image an anomaly score rests on, found by hiding parts: LIME and Kernel SHAP.

Both ask nothing of a detector but scores, so they explain any. A part is a superpixel; a hidden one shows
what a normal image shows there, each sample another one. (A superpixel's own mean colour, which explanations
of classifiers use, hides nothing: a scratch is a superpixel of the scratch's colour.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.seeds import generator
from offnominal.data import to_rgb

Image = npt.NDArray[Any]
Segments = npt.NDArray[np.intp]
Score = Callable[[list[Image]], npt.NDArray[np.float64]]

_AT_ONCE = 64  # images scored in one call


@dataclass(frozen=True)
class Attribution:
    """What each superpixel adds to a score.

    Attributes
    ----------
    method : str
    segments : ndarray (H, W) of intp
        Number of the superpixel of each pixel, from 0.
    weights : ndarray (k,) of float64
        Above zero: showing the superpixel raises the score.
    """

    method: str
    segments: Segments
    weights: npt.NDArray[np.float64]

    @property
    def map(self) -> npt.NDArray[np.float32]:
        """The weights at their pixels, (H, W)."""
        found: npt.NDArray[np.float32] = self.weights.astype(np.float32)[self.segments]
        return found


def superpixels(image: Image, count: int = 60) -> Segments:
    """Cut an image into about so many superpixels (simple linear iterative clustering).

    Parameters
    ----------
    image : ndarray (H, W, C)
        Any real type.
    count : int, default 60

    Returns
    -------
    ndarray (H, W) of intp
        Numbers without gaps, from 0; at least two superpixels.

    Raises
    ------
    ValueError
        The image is too small to be cut.
    """
    from skimage.segmentation import slic

    if count < 2 or image.shape[0] * image.shape[1] < 4:
        raise ValueError(f"an image of {image.shape[:2]} pixels cannot be cut into {count} parts")
    values = to_rgb(image).astype(np.float64)
    low, high = values.min(), values.max()
    spread = (values - low) / (high - low) if high > low else np.zeros_like(values)
    found = slic(spread, n_segments=count, compactness=10.0, sigma=1.0, start_label=0, channel_axis=2)
    numbers = np.unique(found, return_inverse=True)[1].reshape(found.shape)
    if numbers.max() == 0:  # nothing to hold on to: halves
        numbers = np.zeros(found.shape, np.intp)
        numbers[found.shape[0] // 2 :] = 1
        numbers[:, found.shape[1] // 2 :] += 0 if found.shape[0] > 1 else 1
    return numbers.astype(np.intp)


def lime(
    score: Score,
    image: Image,
    segments: Segments,
    normals: Sequence[Image],
    *,
    samples: int = 500,
    width: float = 0.25,
    ridge: float = 1.0,
    seed: int = 0,
) -> Attribution:
    """Weights of a linear model of the score around an image.

    Parameters
    ----------
    score : callable
        Scores (n,) of a list of images.
    image : ndarray (H, W, C)
    segments : ndarray (H, W) of intp
        From `superpixels`.
    normals : sequence of ndarray (H, W, C)
        Normal images of the image's shape and type, taken in turn for what is hidden.
    samples : int, default 500
        Images with every superpixel hidden by a toss of a coin.
    width : float, default 0.25
        Of the kernel that weighs samples by their cosine distance to the whole image.
    ridge : float, default 1.0
        Penalty on squared weights, the score standardised over the samples.
    seed : int, default 0

    Notes
    -----
    Source: Ribeiro et al., "Why should I trust you?", KDD 2016, with the settings of its image explainer.
    """
    parts = int(segments.max()) + 1
    shown = generator(seed, "lime").random((samples, parts)) < 0.5
    shown[0] = True
    values = _scored(score, image, segments, shown, normals)
    distance = 1 - np.sqrt(shown.mean(axis=1))
    weight = np.exp(-(distance**2) / (2 * width**2))
    level = np.average(values, weights=weight)
    spread = float(np.sqrt(np.average((values - level) ** 2, weights=weight))) or 1.0
    middle = np.average(shown, axis=0, weights=weight)
    inputs: npt.NDArray[np.float64] = shown - middle
    normal = (inputs * weight[:, None]).T @ inputs + ridge * np.eye(parts)
    found = np.linalg.solve(normal, (inputs * weight[:, None]).T @ ((values - level) / spread))
    return Attribution("lime", segments, found * spread)


def kernel_shap(
    score: Score,
    image: Image,
    segments: Segments,
    normals: Sequence[Image],
    *,
    samples: int = 500,
    seed: int = 0,
) -> Attribution:
    """Shapley values of the superpixels, estimated from coalitions drawn by the Shapley kernel.

    Parameters
    ----------
    score, image, segments, normals, seed
        As for `lime`; the normals are the background data of Shapley values.
    samples : int, default 500
        Coalitions; each is drawn together with its complement.

    Returns
    -------
    Attribution
        The weights sum to the score of the image less the mean score of the normals.

    Notes
    -----
    Source: Lundberg and Lee, A unified approach to interpreting model predictions, NeurIPS 2017, Section 4.1.
    """
    parts = int(segments.max()) + 1
    draw = generator(seed, "shap")
    sizes = np.arange(1, parts)
    chances = 1.0 / (sizes * (parts - sizes))
    chosen = draw.choice(sizes, size=max(1, samples // 2), p=chances / chances.sum())
    rank = draw.random((len(chosen), parts)).argsort(axis=1).argsort(axis=1)
    some = rank < chosen[:, None]
    # A coalition and its complement come next to each other; both meet all normals in turn.
    shown = np.stack([some, ~some], axis=1).reshape(-1, parts)
    values = _scored(score, image, segments, shown, normals)
    nothing = float(np.mean(score(list(normals))))
    everything = float(score([image])[0])
    last = shown[:, -1].astype(np.float64)
    inputs = shown[:, :-1] - last[:, None]
    wanted = values - nothing - last * (everything - nothing)
    found = np.linalg.lstsq(inputs, wanted, rcond=None)[0]
    return Attribution("shap", segments, np.append(found, everything - nothing - found.sum()))


def _scored(
    score: Score,
    image: Image,
    segments: Segments,
    shown: npt.NDArray[np.bool_],
    normals: Sequence[Image],
) -> npt.NDArray[np.float64]:
    """Scores of an image under each row of superpixels shown."""
    if not len(normals):
        raise ValueError("hiding parts of an image needs at least one normal image to show instead")
    found = []
    for first in range(0, len(shown), _AT_ONCE):
        rows = shown[first : first + _AT_ONCE]
        found.append(
            score(
                [
                    np.where(row[segments][..., None], image, normals[(first + number) % len(normals)])
                    for number, row in enumerate(rows)
                ]
            )
        )
    return np.concatenate(found)
