"""Data frames of other libraries as rows; none of them is imported unless it is already in use."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from offnominal.core.errors import BadSource, ExtraMissing
from offnominal.data.tables.rows import Kind, Rows, joined
from offnominal.data.tables.values import convert, guess


def library(frame: Any) -> str:
    """Name of the package a value's type comes from."""
    return type(frame).__module__.partition(".")[0]


def from_frame(frame: Any, name: str) -> Rows | None:
    """Rows of a pandas, Polars or Arrow frame; None for anything else."""
    kind = type(frame).__name__
    origin = library(frame)
    if origin == "pandas" and kind == "DataFrame":
        return from_pandas(frame, name)
    if origin == "polars" and kind in ("DataFrame", "LazyFrame"):
        return from_polars(frame.collect() if kind == "LazyFrame" else frame, name)
    if origin == "pyarrow" and kind in ("Table", "RecordBatch"):
        return from_polars(polars("Arrow tables").from_arrow(frame), name)
    return None


def polars(purpose: str) -> Any:
    """The polars package.

    Raises
    ------
    ExtraMissing
        It is not installed.
    """
    try:
        import polars as package
    except ImportError:
        raise ExtraMissing("table", f"reading {purpose}") from None
    return package


def from_pandas(frame: Any, name: str) -> Rows:
    """Rows of a pandas frame; its index is no column."""
    found: list[tuple[str, Kind, npt.NDArray[Any]]] = []
    for place, label in enumerate(frame.columns):
        series = frame.iloc[:, place]
        dtype = series.dtype
        character = getattr(dtype, "kind", "O")
        if character in "biuf" and not str(dtype).startswith("category"):
            values = series.to_numpy(dtype=np.float64, na_value=np.nan)
            found.append((str(label), "number", values))
        elif character == "M":
            moments = series.dt.tz_convert("UTC").dt.tz_localize(None) if hasattr(dtype, "tz") else series
            found.append((str(label), "date", _seconds(moments.to_numpy(dtype="datetime64[us]"))))
        elif character == "m":
            spans = series.to_numpy(dtype="timedelta64[us]")
            found.append((str(label), "number", _seconds(spans)))
        elif str(dtype) in ("str", "string", "category"):
            values = series.astype(object).to_numpy()
            found.append((str(label), *convert(name, str(label), values.tolist())))
        else:
            found.append((str(label), *convert(name, str(label), series.tolist())))
    return joined(name, found, len(frame))


def _seconds(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    seconds = values.astype(np.int64) / 1e6
    seconds[np.isnat(values)] = np.nan
    return seconds


def from_polars(frame: Any, name: str) -> Rows:
    """Rows of a Polars frame."""
    import polars as pl

    found: list[tuple[str, Kind, npt.NDArray[Any]]] = []
    for series in frame.get_columns():
        dtype = series.dtype
        if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
            values = series.cast(pl.Float64).to_numpy()
            found.append((series.name, "number", values))
        elif dtype in (pl.Date, pl.Datetime):
            values = series.cast(pl.Datetime("us")).cast(pl.Int64).cast(pl.Float64).to_numpy() / 1e6
            found.append((series.name, "date", values))
        elif dtype in (pl.Duration, pl.Time):
            divisor = 1e9 if dtype == pl.Time else 1e6
            whole = series if dtype == pl.Time else series.cast(pl.Duration("us"))
            values = whole.cast(pl.Int64).cast(pl.Float64).to_numpy() / divisor
            found.append((series.name, "number", values))
        elif dtype in (pl.Categorical, pl.Enum):
            found.append((series.name, "category", _words(series.cast(pl.String))))
        elif dtype == pl.String:
            words = _words(series)
            found.append((series.name, guess(words), words))
        elif dtype == pl.Object:
            found.append((series.name, *convert(name, series.name, series.to_list())))
        else:
            raise BadSource(
                f"{name}, column {series.name!r}: holds values of type {dtype}, which is no number, date or "
                "word; drop it, or unpack it into columns"
            )
    return joined(name, found, len(frame))


def _words(series: Any) -> npt.NDArray[np.object_]:
    words: npt.NDArray[np.object_] = np.empty(len(series), object)
    words[:] = series.to_list()
    return words
