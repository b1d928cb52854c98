from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from offnominal import metrics
from offnominal.bench.comparison import Scored, over_seeds, write_comparison
from offnominal.bench.machine import describe, peak_bytes
from offnominal.bench.measures import shrunk_mask
from offnominal.bench.runner import Run, carry_out, read_results
from offnominal.bench.tables import by_set, spread_text


def scores_like(labels: np.ndarray, strength: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=len(labels)) + strength * labels


LABELS = np.repeat([0, 1], 40)
ITEMS = np.array([f"{at:03}.png" for at in range(80)])


def scored(strength: float, seed: int) -> Scored:
    return ITEMS, LABELS, scores_like(LABELS, strength, seed)


def test_one_seed_is_the_paired_bootstrap() -> None:
    ours, theirs = scored(2.0, 0), scored(1.0, 1)
    plain = metrics.paired_bootstrap(LABELS, ours[2], theirs[2], metrics.auroc)
    found = over_seeds([ours], [theirs], metrics.auroc)
    assert found.difference == pytest.approx(plain.difference)
    assert (found.lower, found.upper) == pytest.approx((plain.lower, plain.upper))


def test_the_difference_is_the_mean_over_seeds() -> None:
    ours, theirs = [scored(2.0, seed) for seed in range(3)], [scored(1.0, seed + 9) for seed in range(3)]
    each = [
        metrics.auroc(LABELS, a[2]) - metrics.auroc(LABELS, b[2]) for a, b in zip(ours, theirs, strict=True)
    ]
    assert over_seeds(ours, theirs, metrics.auroc).difference == pytest.approx(np.mean(each))


def test_repeating_a_seed_does_not_narrow_the_bounds() -> None:
    ours, theirs = scored(1.5, 0), scored(1.0, 1)
    once = over_seeds([ours], [theirs], metrics.auroc)
    thrice = over_seeds([ours] * 3, [theirs] * 3, metrics.auroc)
    assert (thrice.lower, thrice.upper) == pytest.approx((once.lower, once.upper))


def test_the_order_of_items_does_not_matter_and_other_items_are_refused() -> None:
    ours, theirs = scored(2.0, 0), scored(1.0, 1)
    turned = tuple(column[::-1] for column in theirs)
    assert over_seeds([ours], [turned], metrics.auroc) == over_seeds([ours], [theirs], metrics.auroc)
    fewer = tuple(column[:-1] for column in theirs)
    with pytest.raises(ValueError, match="same items"):
        over_seeds([ours], [fewer], metrics.auroc)


def test_the_page_sets_both_sides_side_by_side(tmp_path: Path) -> None:
    strengths = {"mine": 3.0, "other": 1.0}

    def execute(run: Run, place: Path) -> dict[str, object]:
        scores = scores_like(LABELS, strengths[run.label], run.seed)
        np.savez(place, scores=scores, labels=LABELS, items=ITEMS)
        costs = {"train": 10, "fit_s": 1.0, "score_ms": 1.0, "peak_mb": 100.0}
        return {"auroc": metrics.auroc(LABELS, scores), "ap": 0.5, **costs, "machine": describe()}

    runs = [Run("parts", seed, label, label) for label in strengths for seed in (0, 1)]
    carry_out(runs, tmp_path, execute)
    page, table = tmp_path / "image_peer.md", tmp_path / "image_peer.csv"
    assert write_comparison(read_results(tmp_path), tmp_path, tmp_path, {"mine": "other"}) == [table, page]
    assert "| parts" in page.read_text(encoding="utf-8")
    auroc, _ = table.read_text(encoding="utf-8").splitlines()[1:]
    assert auroc.startswith("parts,mine,other,auroc,2,")
    assert auroc.endswith(",true")  # so much stronger that the bound is above the margin


def test_a_mask_shrinks_to_the_nearest_pixels() -> None:
    mask = np.zeros((8, 12), bool)
    mask[:4, 6:] = True
    small = shrunk_mask(mask, 4)
    assert small.tolist() == [[False, False, True, True]] * 2 + [[False] * 4] * 2
    assert (shrunk_mask(mask, 48).mean(), shrunk_mask(mask, 48)[0, -1]) == (0.25, True)


def test_cells_hold_the_mean_and_deviation_over_seeds() -> None:
    assert spread_text(np.array([0.9, 0.92])) == "91.00 ± 1.41"
    assert spread_text(np.array([0.9, np.nan])) == "90.00"
    assert spread_text(np.array([np.nan])) is None
    records = [
        {"set": name, "seed": 0, "label": label, "auroc": value}
        for name, label, value in (("a", "x", 0.5), ("a", "y", 1.0), ("b", "x", 0.7), ("b", "y", None))
    ]
    table = by_set(records, "auroc").splitlines()
    assert [cell.strip() for cell in table[-1].split("|")[1:-1]] == ["mean of sets", "60.00", "100.00"]
    assert [cell.strip() for cell in table[3].split("|")[1:-1]] == ["b", "70.00", "–"]


def test_the_peak_of_a_process_is_its_own_and_not_its_parents() -> None:
    ballast = np.ones(40_000_000)  # 320 MB
    code = "from offnominal.bench.machine import peak_bytes; print(peak_bytes())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert peak_bytes() > ballast.nbytes > int(done.stdout) > 10_000_000
