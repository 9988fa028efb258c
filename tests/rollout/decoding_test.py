"""Decoding against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arl.rollout.decoding import Decoding, masked_log_probs, narrow, sample

LOGITS = np.random.default_rng(0).normal(size=(50, 9)).astype(np.float32) * 2
SUPPORT = np.random.default_rng(1).random((50, 9)) < 0.7
SUPPORT[:, 3] = True


def plain_softmax(logits, support, temperature):
    weights = np.where(support, np.exp(logits.astype(np.float64) / temperature), 0.0)
    return weights / weights.sum(-1, keepdims=True)


def plain_narrow(logits, support, decoding):
    kept = []
    for row, legal in zip(logits, support, strict=True):
        probs = plain_softmax(row, legal, decoding.temperature or 1.0)
        order = [int(i) for i in np.argsort(-np.where(legal, row, -np.inf), kind="stable") if legal[i]]
        if decoding.temperature == 0:
            chosen = {order[0]}
        else:
            chosen = set(order[: decoding.top_k or len(order)])
            mass, nucleus = 0.0, set()
            for candidate in order:
                if mass < decoding.top_p:
                    nucleus.add(candidate)
                mass += probs[candidate]
            chosen &= nucleus if decoding.top_p < 1 else chosen
            chosen &= {candidate for candidate in order if probs[candidate] >= decoding.min_p * probs.max()}
        kept.append([i in chosen for i in range(len(row))])
    return np.array(kept)


DECODINGS = [
    Decoding(),
    Decoding(temperature=0.0),
    Decoding(top_k=1),
    Decoding(top_k=3, temperature=0.5),
    Decoding(top_p=0.7),
    Decoding(min_p=0.3),
    Decoding(top_k=4, top_p=0.8, min_p=0.1, temperature=1.7),
]


@pytest.mark.parametrize("decoding", DECODINGS, ids=str)
def test_what_is_kept(decoding):
    kept = narrow(jnp.asarray(LOGITS), jnp.asarray(SUPPORT), decoding)
    np.testing.assert_array_equal(kept, plain_narrow(LOGITS, SUPPORT, decoding))
    assert np.asarray(kept).any(-1).all() and not (np.asarray(kept) & ~SUPPORT).any()


@pytest.mark.parametrize("decoding", DECODINGS, ids=str)
def test_decoding_says_whether_candidates_may_be_dropped(decoding):
    is_dropped = SUPPORT & ~np.asarray(narrow(jnp.asarray(LOGITS), jnp.asarray(SUPPORT), decoding))
    assert decoding.narrows == is_dropped.any()


@pytest.mark.parametrize("temperature", [1.0, 0.3, 2.0])
def test_log_probs_are_renormalised_over_the_support(temperature):
    found = np.exp(masked_log_probs(jnp.asarray(LOGITS), jnp.asarray(SUPPORT), temperature))
    np.testing.assert_allclose(found, plain_softmax(LOGITS, SUPPORT, temperature), atol=1e-6)


def test_samples_have_the_right_frequencies():
    """A chi-square statistic of 8 degrees of freedom stays below 26.1 with probability 0.999."""
    support = jnp.asarray(SUPPORT[0])
    log_probs = masked_log_probs(jnp.asarray(LOGITS[0]), support, 1.0)
    uniform = jax.random.uniform(jax.random.key(0), (20_000,))
    candidates = np.asarray(jax.vmap(lambda u: sample(u, log_probs, support))(uniform))
    expected = plain_softmax(LOGITS[0], SUPPORT[0], 1.0) * len(candidates)
    counts = np.bincount(candidates, minlength=9)
    assert counts[~SUPPORT[0]].sum() == 0
    legal = SUPPORT[0]
    assert ((counts[legal] - expected[legal]) ** 2 / expected[legal]).sum() < 26.1


def test_the_unit_interval_is_shared_by_the_candidates_of_the_support():
    """Also where log-probs were not renormalised over it: a candidate's part is what it has of all in the support."""
    log_probs, support = jnp.log(jnp.asarray([0.25, 0.5, 0.125, 0.125], jnp.float32)), jnp.asarray([True, False, True, True])
    candidates = [int(sample(jnp.float32(uniform), log_probs, support)) for uniform in (0.0, 0.45, 0.55, 0.7, 0.8, 0.99)]
    assert candidates == [0, 0, 2, 2, 3, 3]


@pytest.mark.parametrize("uniform", [0.0, np.nextafter(np.float32(1), np.float32(0))])
def test_the_ends_of_the_unit_interval_are_candidates_of_the_support(uniform):
    log_probs = masked_log_probs(jnp.asarray(LOGITS), jnp.asarray(SUPPORT), 1.0)
    candidates = sample(jnp.full(50, uniform, jnp.float32), log_probs, jnp.asarray(SUPPORT))
    assert SUPPORT[np.arange(50), np.asarray(candidates)].all()


def test_nothing_without_probability_is_sampled_wherever_rounding_puts_a_boundary():
    """A parallel sum over many candidates rises by rounding where nothing is added; uniform numbers next to each boundary are tried."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        support = jnp.asarray(rng.random(512) < 0.2).at[3].set(True)
        log_probs = masked_log_probs(jnp.asarray(rng.normal(size=512) * 2, jnp.float32), support, 1.0)
        cumulative = np.asarray(jnp.cumsum(jnp.where(support, jnp.exp(log_probs), 0.0)))
        near = [np.unique(cumulative / cumulative[-1])]
        for towards in (0.0, 2.0):
            steps = near[0]
            for _ in range(3):
                steps = np.nextafter(steps, np.float32(towards))
                near.append(steps)
        uniform = np.concatenate(near)
        uniform = jnp.asarray(uniform[(uniform >= 0) & (uniform < 1)])
        candidates = sample(uniform, jnp.broadcast_to(log_probs, (len(uniform), 512)), jnp.broadcast_to(support, (len(uniform), 512)))
        assert np.asarray(support)[np.asarray(candidates)].all()


@pytest.mark.parametrize("decoding", DECODINGS[2:], ids=str)
def test_narrowed_samples_have_the_renormalised_frequencies(decoding):
    """The distribution that is sampled from is the one whose log-prob is recorded."""
    support = narrow(jnp.asarray(LOGITS[1]), jnp.asarray(SUPPORT[1]), decoding)
    log_probs = masked_log_probs(jnp.asarray(LOGITS[1]), support, decoding.temperature)
    candidates = np.asarray(jax.vmap(lambda u: sample(u, log_probs, support))(jax.random.uniform(jax.random.key(1), (20_000,))))
    counts, kept = np.bincount(candidates, minlength=9), np.asarray(support)
    expected = np.exp(np.asarray(log_probs, np.float64)) * len(candidates)
    assert counts[~kept].sum() == 0
    assert ((counts[kept] - expected[kept]) ** 2 / expected[kept]).sum() < 26.1


TIED = np.array([[1.0, 2.0, 2.0, 2.0, 0.0]], np.float32)


@pytest.mark.parametrize(
    ("decoding", "wanted"),
    [
        (Decoding(temperature=0.0), [1]),
        (Decoding(top_k=1), [1]),
        (Decoding(top_k=2), [1, 2]),
        (Decoding(top_k=4), [0, 1, 2, 3]),
        (Decoding(top_k=100), [0, 1, 2, 3, 4]),
        (Decoding(top_p=1e-6), [1]),
        (Decoding(top_p=0.4), [1, 2]),
        (Decoding(min_p=0.9), [1, 2, 3]),
    ],
    ids=str,
)
def test_of_equals_the_first_is_kept(decoding, wanted):
    kept = np.asarray(narrow(jnp.asarray(TIED), jnp.ones((1, 5), bool), decoding))[0]
    assert np.flatnonzero(kept).tolist() == wanted


@pytest.mark.parametrize(
    ("probs", "top_p", "wanted"),
    [([0.5, 0.25, 0.25], 0.5, [0]), ([0.25, 0.5, 0.25], 0.75, [0, 1]), ([0.25, 0.25, 0.25, 0.25], 0.5, [0, 1])],
)
def test_a_nucleus_ends_with_the_candidate_that_fills_it(probs, top_p, wanted):
    """These probabilities, and their sums, are exact in float32: the boundary itself is met."""
    logits, support = jnp.log(jnp.asarray(probs, jnp.float32)), jnp.ones(len(probs), bool)
    assert jnp.exp(masked_log_probs(logits, support, 1.0)).tolist() == probs
    assert np.flatnonzero(narrow(logits, support, Decoding(top_p=top_p))).tolist() == wanted


def test_a_candidate_as_probable_as_min_p_asks_for_is_kept():
    logits, support = jnp.log(jnp.asarray([0.5, 0.25, 0.125, 0.125], jnp.float32)), jnp.ones(4, bool)
    assert np.flatnonzero(narrow(logits, support, Decoding(min_p=0.5))).tolist() == [0, 1]


def test_top_k_counts_legal_candidates_only():
    support = jnp.array([[True, False, False, True, True]])
    assert np.flatnonzero(np.asarray(narrow(jnp.asarray(TIED), support, Decoding(top_k=2)))[0]).tolist() == [0, 3]


@pytest.mark.parametrize("options", [dict(temperature=-1.0), dict(top_k=-1), dict(top_p=0.0), dict(min_p=1.0)], ids=str)
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match="set"):
        Decoding(**options)
