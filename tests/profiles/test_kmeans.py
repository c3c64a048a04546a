import warnings

import numpy as np
import pytest
from sklearn.cluster import KMeans as Peer
from sklearn.datasets import make_blobs

from promo_ray.errors import ConfigError, ConvergenceWarning, DataError
from promo_ray.execution import iterate
from promo_ray.profiles.kmeans import KMeans, KMeansState, Points, nearest, predict
from promo_ray.seeding import keys_of


def points(x):
    return Points(x, keys_of(f"u{i}" for i in range(len(x))))


def split(shard, n_shards):
    places = np.array_split(np.arange(len(shard.x)), n_shards)
    return [Points(shard.x[p], shard.keys[p]) for p in places]


@pytest.fixture(scope="module")
def blobs():
    x, _ = make_blobs(3000, 5, centers=6, cluster_std=2.5, random_state=0)
    return points(x)


def test_states_have_the_same_bits_for_any_split_and_order(blobs):
    method = KMeans(n_clusters=6, reservoir_size=500)
    one = iterate(method, [blobs], seed=3).state
    order = np.random.default_rng(0).permutation(len(blobs.x))
    shuffled = Points(blobs.x[order], blobs.keys[order])
    for shards in (split(blobs, 7), split(blobs, 64), split(shuffled, 7)):
        state = iterate(method, shards, seed=3).state
        np.testing.assert_array_equal(state.centers, one.centers)
        np.testing.assert_array_equal(state.counts, one.counts)
        assert (state.inertia, state.n_iter) == (one.inertia, one.n_iter)


def test_lloyd_equals_scikit_learn_from_the_same_start(blobs):
    start = blobs.x[:6]
    method = KMeans(n_clusters=6, tol=0.0, max_iter=300)
    state = method.init(0)._replace(phase="lloyd", centers=start)
    while not method.done(state):
        state = method.update(state, method.partial(blobs, state))
    peer = Peer(6, init=start, n_init=1, tol=0.0, max_iter=300, algorithm="lloyd").fit(blobs.x)
    assert state.inertia == pytest.approx(peer.inertia_, rel=1e-9)
    order = np.lexsort((*peer.cluster_centers_.T[::-1], -np.bincount(peer.labels_)))
    np.testing.assert_allclose(state.centers, peer.cluster_centers_[order], rtol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_inertia_is_within_two_percent_of_scikit_learn(blobs, seed):
    state = iterate(KMeans(n_clusters=6, reservoir_size=1000), split(blobs, 8), seed=seed).state
    peer = Peer(6, n_init=10, random_state=seed).fit(blobs.x)
    assert state.is_converged
    assert state.inertia <= 1.02 * peer.inertia_


def test_counts_and_inertia_belong_to_the_final_centers(blobs):
    state = iterate(KMeans(n_clusters=4), split(blobs, 3)).state
    labels, distance = nearest(blobs.x, state.centers)
    np.testing.assert_array_equal(np.bincount(labels), state.counts)
    assert state.inertia == pytest.approx(distance.sum(), rel=1e-12)
    assert np.all(np.diff(state.counts) <= 0)
    np.testing.assert_array_equal(predict(blobs.x, state.centers), labels)


def test_distances_equal_brute_force_and_ties_go_to_the_lower_index(blobs):
    centers = blobs.x[:4]
    labels, distance = nearest(blobs.x, centers)
    brute = ((blobs.x[:, None] - centers) ** 2).sum(axis=2)
    np.testing.assert_array_equal(labels, brute.argmin(axis=1))
    np.testing.assert_allclose(distance, brute.min(axis=1))
    twice = np.array([[1.0], [1.0], [-1.0]])
    assert predict(np.array([[1.0], [0.0]]), twice).tolist() == [0, 0]


def test_an_empty_cluster_restarts_at_the_farthest_row(blobs):
    method = KMeans(n_clusters=3)
    far = np.full((1, 5), 1e4)
    start = np.concatenate([blobs.x[:2], far])
    state = method.init(0)._replace(phase="lloyd", centers=start)
    after = method.update(state, method.partial(blobs, state))
    _, distance = nearest(blobs.x, start)
    np.testing.assert_array_equal(after.centers[2], blobs.x[distance.argmax()])
    assert method.partial(blobs, after).counts.all()


def test_fewer_distinct_rows_than_clusters_still_ends():
    x = np.repeat(np.array([[0.0], [1.0]]), 10, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        state = iterate(KMeans(n_clusters=4), split(points(x), 3)).state
    assert state.inertia == 0.0
    assert sorted(state.counts.tolist()) == [0, 0, 10, 10]


def test_the_limit_of_passes_is_told(blobs):
    with pytest.warns(ConvergenceWarning, match="max_iter=1"):
        state = iterate(KMeans(n_clusters=6, max_iter=1), [blobs]).state
    assert isinstance(state, KMeansState)
    assert not state.is_converged


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="n_clusters"):
        KMeans(n_clusters=0)
    with pytest.raises(ConfigError, match="max_iter"):
        KMeans(max_iter=0)
    with pytest.raises(DataError, match="needs 3 rows"):
        iterate(KMeans(), [points(np.zeros((2, 1)))])
    with pytest.raises(DataError, match="column 0: values must be finite"):
        iterate(KMeans(), [points(np.full((9, 1), np.nan))])
