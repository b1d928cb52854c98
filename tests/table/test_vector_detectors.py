"""Each vector detector against an independent reference: scikit-learn's, or the paper written out plainly."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

import offnominal as off
from offnominal.metrics import auroc
from offnominal.table import forest, neighbours
from offnominal.table.one_class import solve_dual, solve_primal

sklearn = pytest.importorskip("sklearn")


def _rows(n: int, seed: int, d: int = 5) -> np.ndarray:
    random = np.random.default_rng(seed)
    shared = np.random.default_rng(99).normal(size=(2, d))
    return random.normal(size=(n, 2)) @ shared + 0.5 * random.normal(size=(n, d))


TRAIN, NEW = _rows(300, 0), np.concatenate([_rows(60, 1), 4 * _rows(20, 2)])


def _scores(name: str, train: np.ndarray = TRAIN, new: np.ndarray = NEW, **parameters: Any) -> np.ndarray:
    return off.make(name, "table", **{"scaling": "none", **parameters}).fit(train).anomaly_score(new)


@pytest.mark.parametrize("aggregate", ["largest", "mean", "median"])
def test_knn(aggregate: str) -> None:
    distances = np.sort(np.linalg.norm(NEW[:, None] - TRAIN[None], axis=2), axis=1)[:, :5]
    expected = {"largest": distances[:, -1], "mean": distances.mean(1), "median": np.median(distances, 1)}
    np.testing.assert_allclose(_scores("knn", aggregate=aggregate), expected[aggregate], rtol=1e-12)


def test_knn_leaves_each_row_out_of_its_own_neighbours() -> None:
    apart = np.linalg.norm(TRAIN[:, None] - TRAIN[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    found = off.make("knn", scaling="none").fit_score(TRAIN)
    np.testing.assert_allclose(found, np.sort(apart, axis=1)[:, 4], rtol=1e-12)


def test_knn_contributions_sum_to_the_distance_to_one_neighbour() -> None:
    detector = off.make("knn", neighbours=1).fit(TRAIN)
    maps = np.stack(list(detector.anomaly_map(NEW)))
    np.testing.assert_allclose(maps.sum(1), detector.anomaly_score(NEW), rtol=1e-5)


@pytest.mark.parametrize("duplicated", [False, True])
def test_products_and_tree_find_the_same_rows(duplicated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    rows = _rows(2_000, 3, 12)
    if duplicated:
        rows = np.round(rows[np.arange(2_000) % 700], 1)
    monkeypatch.setattr(neighbours, "_TREE_ROWS", 10**9)
    tree = neighbours.Neighbours(rows)
    monkeypatch.setattr(neighbours, "_TREE_ROWS", 1)
    scan = neighbours.Neighbours(rows)
    assert scan._scan is not None
    queries = np.concatenate([rows[:50], _rows(400, 4, 12)])
    np.testing.assert_allclose(scan.search(queries, 7)[0], tree.search(queries, 7)[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scan.others(4)[0], tree.others(4)[0], rtol=1e-9, atol=1e-12)
    alone = np.concatenate([scan.search(query[None], 7)[0] for query in queries[:60]])
    np.testing.assert_allclose(scan.search(queries, 7)[0][:60], alone, rtol=1e-12, atol=1e-12)


def test_lof() -> None:
    from sklearn.neighbors import LocalOutlierFactor

    reference = LocalOutlierFactor(n_neighbors=20, novelty=True).fit(TRAIN)
    np.testing.assert_allclose(_scores("lof"), -reference.score_samples(NEW), rtol=1e-6)
    own = off.make("lof", scaling="none").fit_score(TRAIN)
    np.testing.assert_allclose(own, -reference.negative_outlier_factor_, rtol=1e-6)


def test_feature_bagging_is_the_mean_of_lofs_on_its_columns() -> None:
    detector = off.make("feature_bagging", scaling="none", rounds=4).fit(TRAIN)
    each = [_scores("lof", TRAIN[:, c], NEW[:, c]) for c in detector._columns]
    np.testing.assert_allclose(detector.anomaly_score(NEW), np.mean(each, axis=0), rtol=1e-9)
    assert {len(columns) for columns in detector._columns} <= {2, 3, 4}


def test_iforest_path_lengths() -> None:
    detector = off.make("iforest", trees=7, sample=64).fit(TRAIN)
    trees = detector.forest_
    encoded = (NEW - TRAIN.mean(0)) / TRAIN.std(0)
    expected = []
    for row in encoded:
        depths = []
        for root in trees["roots"]:
            node, depth = int(root), 0
            while trees["children"][node] >= 0:
                right = row[trees["columns"][node, 0]] >= trees["levels"][node]
                node, depth = int(trees["children"][node]) + int(right), depth + 1
            assert depth <= 6
            depths.append(trees["depths"][node])
            assert trees["depths"][node] >= depth
        expected.append(2 ** (-np.mean(depths) / forest.average_path(64)))
    np.testing.assert_allclose(detector.anomaly_score(NEW), expected, rtol=1e-9)


@pytest.mark.parametrize("extension", [0, 2])
def test_compiled_walk_equals_the_plain_one(extension: int) -> None:
    compiled = pytest.importorskip("offnominal.table.compiled")
    trees, _ = forest.grow(TRAIN, 20, 128, extension, np.random.default_rng(0))
    many = np.concatenate([NEW, TRAIN, NEW, TRAIN])
    np.testing.assert_array_equal(forest._compiled(compiled, trees, many), forest._walked(trees, many))


def test_every_sampled_row_ends_in_a_leaf_of_its_own_or_at_the_limit() -> None:
    trees, _ = forest.grow(TRAIN[:16], 5, 16, 0, np.random.default_rng(0))
    inner = trees["children"] >= 0
    assert inner.sum() <= 5 * 15
    assert len(trees["levels"]) == 5 + 2 * inner.sum()
    assert forest.average_path(256) == pytest.approx(10.2448, abs=1e-3)


def test_iforest_ranks_as_scikit_learns() -> None:
    from sklearn.ensemble import IsolationForest

    reference = -IsolationForest(n_estimators=300, random_state=0).fit(TRAIN).score_samples(NEW)
    assert spearmanr(reference, _scores("iforest", trees=300)).statistic > 0.97
    assert spearmanr(reference, _scores("iforest", trees=300, extension=4)).statistic > 0.85


def _tails(train: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    left = -np.log(((train[None] <= new[:, None]).sum(1) + 1) / (len(train) + 1))
    right = -np.log(((train[None] >= new[:, None]).sum(1) + 1) / (len(train) + 1))
    skew = ((train - train.mean(0)) ** 3).mean(0)
    return left, right, np.where(skew < 0, left, right)


def test_ecod_and_copod() -> None:
    train = np.round(np.exp(TRAIN), 1)  # ties, and skewed
    new = np.round(np.exp(NEW), 1)
    left, right, chosen = _tails(train, new)
    rows = np.max([left.sum(1), right.sum(1), chosen.sum(1)], axis=0)
    np.testing.assert_allclose(_scores("ecod", train, new, aggregate="rows"), rows, rtol=1e-9)
    np.testing.assert_allclose(_scores("copod", train, new, aggregate="rows"), rows, rtol=1e-9)
    np.testing.assert_allclose(
        _scores("ecod", train, new), np.max([left, right, chosen], 0).sum(1), rtol=1e-9
    )
    mixed = np.maximum(chosen, (left + right) / 2).sum(1)
    np.testing.assert_allclose(_scores("copod", train, new), mixed, rtol=1e-9)


def test_hbos_static() -> None:
    expected = np.zeros(len(NEW))
    for column, new in zip(TRAIN.T, NEW.T, strict=True):
        counts, edges = np.histogram(column, 10)
        heights = np.concatenate([[0.5], counts + 0.5, [0.5]])
        place = np.digitize(new, edges)
        place[new == edges[-1]] = 10
        expected += -np.log(heights[place] / heights.max())
    np.testing.assert_allclose(_scores("hbos"), expected, rtol=1e-9)


def test_hbos_dynamic_bins_hold_about_as_many_rows_each() -> None:
    detector = off.make("hbos", scaling="none", kind="dynamic", bins=10).fit(TRAIN)
    for column, edges in zip(TRAIN.T, detector._edges, strict=True):
        counts = np.histogram(column, edges)[0]
        assert abs(counts - 30).max() <= 2
    assert auroc([0] * 60 + [1] * 20, detector.anomaly_score(NEW)) > 0.75


def test_pca_is_the_mahalanobis_distance_of_correlations() -> None:
    train = _rows(20_000, 5)
    white = (train - train.mean(0)) / train.std(0)
    new = (NEW - train.mean(0)) / train.std(0)
    values, vectors = np.linalg.eigh(np.cov(white.T, bias=True))
    terms = (new @ vectors) ** 2 / values
    np.testing.assert_allclose(_scores("pca", train, ridge=0.0), terms.sum(1), rtol=0.02)
    major = _scores("pca", train, ridge=0.0, major=values[-1] / values.sum() - 1e-3, minor=0.0)
    np.testing.assert_allclose(major, terms[:, -1], rtol=0.02)
    last = _scores("pca", train, ridge=0.0, major=values[-1] / values.sum() - 1e-3, minor=0.25)
    np.testing.assert_allclose(last, terms[:, -1] + terms[:, 0], rtol=0.02)


def test_ocsvm_solves_the_same_problem() -> None:
    from sklearn.svm import OneClassSVM

    reference = OneClassSVM(nu=0.2, gamma=0.3, tol=1e-6).fit(TRAIN)
    found = _scores("ocsvm", nu=0.2, gamma=0.3)
    expected = -reference.decision_function(NEW) / (0.2 * len(TRAIN))
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.ptp(expected))
    close = _scores("ocsvm", nu=0.2, gamma=0.3, solver="nystroem", landmarks=150)
    assert spearmanr(close, expected).statistic > 0.98


@pytest.mark.parametrize("nu", [0.05, 0.3, 1.0])
def test_one_class_solution_is_feasible_and_optimal(nu: float) -> None:
    squared = ((TRAIN[:, None] - TRAIN[None]) ** 2).sum(2)
    kernel = np.exp(-0.3 * squared)
    weights, offset = solve_dual(kernel, nu)
    cap = 1 / (nu * len(TRAIN))
    assert weights.sum() == pytest.approx(1.0)
    assert weights.min() >= 0
    assert weights.max() <= cap * (1 + 1e-9)
    values = kernel @ weights
    slack = 2e-3 * cap
    assert (values[weights == 0] >= offset - slack).all()
    assert (values[weights >= cap * (1 - 1e-9)] <= offset + slack).all()


def test_primal_and_dual_meet() -> None:
    features = np.abs(TRAIN) + 1
    weights, offset = solve_dual(features @ features.T, 0.3)
    normal, other = solve_primal(features, 0.3)
    np.testing.assert_allclose(features.T @ weights, normal, rtol=0.05)
    assert offset == pytest.approx(other, rel=0.05)


def test_kde() -> None:
    from sklearn.neighbors import KernelDensity

    reference = KernelDensity(bandwidth=0.4).fit(TRAIN)
    np.testing.assert_allclose(_scores("kde", bandwidth=0.4), -reference.score_samples(NEW), rtol=1e-6)
    own = off.make("kde", scaling="none", bandwidth=0.4).fit_score(TRAIN)
    one = -KernelDensity(bandwidth=0.4).fit(TRAIN[1:]).score_samples(TRAIN[:1])
    np.testing.assert_allclose(own[:1], one, rtol=1e-9)


def test_gmm_is_as_likely_as_scikit_learns() -> None:
    from sklearn.mixture import GaussianMixture

    train = np.concatenate([_rows(2_000, 7), _rows(2_000, 8) + 6])
    new = np.concatenate([_rows(500, 9), _rows(500, 10) + 6])
    reference = GaussianMixture(2, random_state=0).fit(train)
    found = _scores("gmm", train, new, components=2)
    assert found.mean() == pytest.approx(-reference.score_samples(new).mean(), abs=0.02)
    assert np.corrcoef(found, -reference.score_samples(new))[0, 1] > 0.999


def test_mcd_is_that_of_the_clean_rows() -> None:
    from sklearn.covariance import MinCovDet

    clean = _rows(800, 11)
    dirty = np.concatenate([clean, np.random.default_rng(0).normal(12, 0.5, (250, 5))])
    found = _scores("mcd", dirty)
    clean_distance = np.einsum(
        "ij,ij->i", NEW - clean.mean(0), (NEW - clean.mean(0)) @ np.linalg.inv(np.cov(clean.T))
    )
    assert np.corrcoef(np.sqrt(found), np.sqrt(clean_distance))[0, 1] > 0.995
    reference = MinCovDet(random_state=0).fit(dirty).mahalanobis(NEW)
    assert np.corrcoef(np.sqrt(found), np.sqrt(reference))[0, 1] > 0.99


def test_loda_is_the_mean_surprise_of_its_histograms() -> None:
    detector = off.make("loda", scaling="none", projections=30, bins=12).fit(TRAIN)
    weights = detector.weights_
    assert ((weights != 0).sum(0) == 2).all()
    expected = np.zeros(len(NEW))
    for direction in weights.T:
        counts, edges = np.histogram(TRAIN @ direction, 12)
        density = np.concatenate([[0.5], counts + 0.5, [0.5]]) / ((len(TRAIN) + 7) * (edges[1] - edges[0]))
        place = np.clip(np.digitize(NEW @ direction, edges), 0, 13)
        expected += -np.log(density[place]) / 30
    np.testing.assert_allclose(detector.anomaly_score(NEW), expected, rtol=1e-9)


def test_abod() -> None:
    expected = []
    for row in NEW:
        near = TRAIN[np.argsort(np.linalg.norm(TRAIN - row, axis=1), kind="stable")[:10]] - row
        weights, angles = [], []
        for a, b in itertools.combinations(near, 2):
            weights.append(1 / (np.linalg.norm(a) * np.linalg.norm(b)))
            angles.append(a @ b / ((a @ a) * (b @ b)))
        mean = np.average(angles, weights=weights)
        expected.append(-math.log(np.average((np.array(angles) - mean) ** 2, weights=weights)))
    np.testing.assert_allclose(_scores("abod"), expected, rtol=1e-8)


def _chaining(row: np.ndarray, near: np.ndarray) -> float:
    """Average chaining distance, the trail walked step by step."""
    reached, left, total, k = [row], list(near), 0.0, len(near)
    for step in range(1, k + 1):
        distance, place = min(
            (min(np.linalg.norm(other - one) for one in reached), i) for i, other in enumerate(left)
        )
        total += 2 * (k + 1 - step) / (k * (k + 1)) * distance
        reached.append(left.pop(place))
    return total


def test_cof() -> None:
    train, new, k = TRAIN[:60], NEW[::8], 6

    def around(row: np.ndarray, skip: int | None = None) -> list[int]:
        order = np.argsort(np.linalg.norm(train - row, axis=1), kind="stable").tolist()
        return [i for i in order if i != skip][:k]

    own = [_chaining(row, train[around(row, i)]) for i, row in enumerate(train)]
    expected = [
        _chaining(row, train[near]) / np.mean([own[i] for i in near]) for row in new for near in [around(row)]
    ]
    np.testing.assert_allclose(_scores("cof", train, new, neighbours=k), expected, rtol=1e-9)


def test_sod() -> None:
    train, new, k, count = TRAIN[:80], NEW[::6], 12, 6
    apart = np.linalg.norm(train[:, None] - train[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    theirs = np.argsort(apart, axis=1)[:, :k]
    expected = []
    for row in new:
        near = np.argsort(np.linalg.norm(train - row, axis=1))[:k]
        shared = [len(set(near) & set(theirs[i])) for i in near]
        chosen = train[near[np.argsort(-np.array(shared), kind="stable")[:count]]]
        relevant = chosen.var(0) < 0.8 * chosen.var(0).mean()
        expected.append(np.linalg.norm((row - chosen.mean(0))[relevant]) / relevant.sum())
    found = _scores("sod", train, new, neighbours=k, references=count)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_cblof_measures_to_the_nearest_large_centre() -> None:
    random = np.random.default_rng(0)
    train = np.concatenate(
        [random.normal(0, 1, (400, 2)), random.normal(20, 1, (300, 2)), random.normal(-30, 0.1, (6, 2))]
    )
    detector = off.make("cblof", scaling="none", clusters=3).fit(train)
    np.testing.assert_allclose(sorted(detector.sizes_), [6, 300, 400])
    found = detector.anomaly_score(np.array([[0.0, 0.0], [20.0, 20.0], [-30.0, -30.0]]))
    assert found[:2].max() < 0.3
    assert found[2] == pytest.approx(30 * math.sqrt(2), abs=0.3)


def test_inne() -> None:
    detector = off.make("inne", scaling="none", rounds=9, sample=6).fit(TRAIN)
    expected = np.zeros(len(NEW))
    for centres in detector.centres_:
        apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)
        np.fill_diagonal(apart, np.inf)
        radius, nearest = apart.min(1), apart.argmin(1)
        for place, row in enumerate(NEW):
            inside = np.flatnonzero(np.linalg.norm(centres - row, axis=1) <= radius)
            if not len(inside):
                expected[place] += 1 / 9
                continue
            ball = inside[radius[inside].argmin()]
            expected[place] += (1 - radius[nearest[ball]] / radius[ball]) / 9
    np.testing.assert_allclose(detector.anomaly_score(NEW), expected, atol=1e-9)


def test_inne_is_not_misled_by_duplicates() -> None:
    train = np.round(TRAIN[np.arange(300) % 40], 1)
    found = (
        off.make("inne", scaling="none")
        .fit(train)
        .anomaly_score(np.concatenate([train[:40], 9 + TRAIN[:20]]))
    )
    assert auroc([0] * 40 + [1] * 20, found) > 0.95
