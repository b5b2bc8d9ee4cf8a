"""Codes of symbols and sequences: each theorem with numbers, each inequality on thousands of random sources."""

import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from probgen import compression, plotting
from probgen.compression import (
    PrefixCode,
    arithmetic_decode,
    arithmetic_encode,
    blocks,
    canonical,
    conditional_entropy,
    cross_entropy,
    divergence,
    elias_delta,
    elias_gamma,
    entropy,
    golomb,
    golomb_size,
    huffman,
    integer_cdf,
    is_prefix_free,
    kraft_sum,
    shannon,
    shannon_fano,
)

RNG = np.random.default_rng(0)


def sources(count, most=12):
    """Random tables, from nearly even to nearly certain."""
    for _ in range(count):
        n, concentration = RNG.integers(2, most + 1), 10.0 ** RNG.uniform(-1.5, 1.5)
        p = RNG.dirichlet(np.full(n, concentration)) + 1e-9
        yield p / p.sum()


# -- entropies


def test_entropies_are_those_of_scipy_and_keep_their_inequalities():
    for p in sources(2000):
        q = RNG.permutation(p)
        np.testing.assert_allclose(entropy(p), stats.entropy(p, base=2), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(divergence(p, q), stats.entropy(p, q, base=2), rtol=1e-9, atol=1e-12)
        assert divergence(p, q) > -1e-12 and entropy(p) <= math.log2(len(p)) + 1e-12
        np.testing.assert_allclose(cross_entropy(p, q), entropy(p) + divergence(p, q), rtol=1e-12)


def test_conditioning_reduces_entropy_and_the_chain_rule_holds():
    for _ in range(2000):
        joint = RNG.dirichlet(np.full(12, 0.3)).reshape(3, 4)
        of_y, of_x = joint.sum(0), joint.sum(1)
        given = conditional_entropy(joint)
        rows = sum(m * entropy(row / m) for m, row in zip(of_x, joint) if m > 1e-300)
        np.testing.assert_allclose(given, rows, atol=1e-9)
        assert given <= entropy(of_y) + 1e-12
        np.testing.assert_allclose(entropy(of_y) - given, divergence(joint, np.outer(of_x, of_y)), atol=1e-9)


# -- prefix-free codes


def words(most):
    return ["".join(w) for n in range(1, most + 1) for w in itertools.product("01", repeat=n)]


def test_prefix_freeness_is_that_of_all_pairs_and_obeys_kraft():
    for _ in range(3000):
        some = [str(w) for w in RNG.choice(words(5), RNG.integers(1, 7), replace=False)]
        clash = any(b.startswith(a) for a, b in itertools.permutations(some, 2))
        assert is_prefix_free(some) is not clash
        if clash:
            with pytest.raises(ValueError, match="begins"):
                PrefixCode(tuple(some))
        else:
            assert kraft_sum(PrefixCode(tuple(some)).lengths) <= 1


def test_mcmillan_a_decodable_code_need_not_be_prefix_free_and_kraft_holds():
    """The words of 0, 01 and 11 backwards are prefix-free, so that each string is read in one way."""
    code = ("0", "01", "11")
    assert not is_prefix_free(code) and is_prefix_free([w[::-1] for w in code]) and kraft_sum(map(len, code)) <= 1
    # of lengths 1, 1, 2 there is none: two of the 2³ strings of three symbols must agree
    for some in itertools.product(["0", "1"], ["0", "1"], words(2)[2:]):
        strings = ["".join(s) for s in itertools.product(some, repeat=4)]
        assert len(set(strings)) < len(strings)


def test_any_lengths_with_krafts_sum_are_those_of_a_code():
    for _ in range(2000):
        lengths = RNG.integers(1, 8, RNG.integers(1, 20)).tolist()
        if kraft_sum(lengths) > 1:
            with pytest.raises(ValueError, match="Kraft sum"):
                canonical(lengths)
            continue
        code = canonical(lengths)
        assert list(code.lengths) == lengths and is_prefix_free(code.words)
        in_order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
        numbers = [Fraction(int(code.words[i], 2), 2 ** lengths[i]) for i in in_order]
        assert numbers == sorted(numbers) and len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("make", [shannon, shannon_fano, huffman])
def test_shannons_bound(make):
    for p in sources(1500):
        code = make(p)
        assert entropy(p) - 1e-9 <= code.expected_length(p) < entropy(p) + 1
        assert kraft_sum(code.lengths) <= 1


def test_shannons_lengths_are_exact_at_powers_of_two():
    assert shannon([0.5, 0.25, 0.125, 0.125]).lengths == (1, 2, 3, 3)
    for n in range(1, 53):
        assert shannon([2.0**-n, 1 - 2.0**-n]).lengths[0] == n


def test_huffman_is_the_best_of_all_codes():
    """By every multiset of lengths whose Kraft sum is 1 (others can be shortened), longest for the least likely."""
    complete = {
        n: [ls for ls in itertools.combinations_with_replacement(range(1, n), n) if kraft_sum(ls) == 1]
        for n in range(2, 8)
    }
    for p in sources(400, most=7):
        best = min(np.sort(p)[::-1] @ np.array(lengths) for lengths in complete[len(p)])
        np.testing.assert_allclose(huffman(p).expected_length(p), best, rtol=1e-12)
        assert kraft_sum(huffman(p).lengths) == 1
        assert best < entropy(p) + p.max() + 0.0861  # Gallager 1978


def test_blocks_come_near_the_entropy():
    p = np.array([0.85, 0.1, 0.05])
    for size in range(1, 7):
        table = blocks(p, size)
        np.testing.assert_allclose(table.sum(), 1)
        rate = huffman(table).expected_length(table) / size
        assert entropy(p) <= rate < entropy(p) + 1 / size
    assert rate < 1.02 * entropy(p) < huffman(p).expected_length(p)


def test_the_wrong_table_costs_the_divergence():
    """With q dyadic, so that Shannon's code for q is ideal, H(p) + KL(p ‖ q) is its length to the last digit."""
    q = np.array([0.5, 0.25, 0.125, 0.125])
    for p in (RNG.dirichlet(np.ones(4)) for _ in range(1000)):
        np.testing.assert_allclose(shannon(q).expected_length(p), entropy(p) + divergence(p, q), rtol=1e-12)


def test_symbols_come_back_from_their_words():
    for p in sources(200):
        code, symbols = huffman(p), RNG.choice(len(p), 40, p=p).tolist()
        bits = code.encode(symbols)
        assert code.decode(bits) == symbols
        longest = max(code.words, key=len)
        if len(longest) > 1:
            with pytest.raises(ValueError, match="they end within a word"):
                code.decode(bits + longest[:-1])
    assert PrefixCode(("0", "10", "11")).trie == (0, (1, 2)) and PrefixCode(("01",)).trie == ((None, 0), None)


# -- integers


@pytest.mark.parametrize("make", [elias_gamma, elias_delta, lambda n: golomb(n - 1, 5), lambda n: golomb(n - 1, 8)])
def test_words_of_integers_are_prefix_free_and_fill_the_trie(make):
    code = [make(n) for n in range(1, 2000)]
    assert is_prefix_free(code) and 0.85 < kraft_sum(map(len, code)) <= 1


def test_lengths_of_integers():
    for n in RNG.integers(1, 2**40, 2000).tolist():
        bits = n.bit_length() - 1
        assert len(elias_gamma(n)) == 2 * bits + 1
        assert len(elias_delta(n)) == bits + 2 * ((bits + 1).bit_length() - 1) + 1


@pytest.mark.parametrize("theta", [0.3, 0.618, 0.62, 0.9, 0.97])
def test_golombs_code_is_huffmans_for_a_geometric_source(theta):
    n = np.arange(2000)
    p = (1 - theta) * theta**n
    lengths = lambda m: p @ np.array([len(golomb(int(k), m)) for k in n])
    best = golomb_size(theta)
    assert best == 1 or theta**best + theta ** (best + 1) <= 1 < theta ** (best - 1) + theta**best
    table = np.append(p, theta ** len(n))
    np.testing.assert_allclose(
        lengths(best), huffman(table / table.sum()).expected_length(table / table.sum()), atol=1e-6
    )
    assert all(lengths(best) <= lengths(m) + 1e-12 for m in (best - 1, best + 1) if m)


# -- sequences


def test_integer_tables_are_increasing_and_lose_next_to_nothing():
    adversarial = [np.eye(300)[7], np.full(2**16, 2.0**-16), np.r_[1 - 1e-300, 1e-300], np.r_[1.0]]
    for p in [*sources(500, most=300), *adversarial]:
        cdf = integer_cdf(p)
        assert cdf[0] == 0 and cdf[-1] == 2**24 and np.all(np.diff(cdf) >= 1)
        assert -1e-9 < divergence(p, np.diff(cdf) / 2**24) < 2 * len(p) / 2**24 / math.log(2) + 1e-9


def _markov(before):
    return [[0.9, 0.08, 0.02], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]][before[-1] if before else 0]


def test_a_sequence_costs_its_information_and_at_most_two_bits():
    for length in [0, 1, 2, 3, 5, 10, 100] * 40:
        symbols = []
        for _ in range(length):
            symbols.append(int(RNG.choice(3, p=_markov(symbols))))
        bits = arithmetic_encode(symbols, _markov)
        information = -sum(math.log2(_markov(symbols[:i])[s]) for i, s in enumerate(symbols))
        assert information - 1e-3 <= len(bits) < information + 2 + 1e-3
        assert arithmetic_decode(bits, _markov, length) == symbols
        assert arithmetic_decode(bits + "0110", _markov, length) == symbols


def test_codes_of_all_sequences_are_prefix_free():
    """So Kraft's inequality holds of them too, and a decoder needs no mark at their end."""
    every = [arithmetic_encode(s, _markov, precision=10) for s in itertools.product(range(3), repeat=5)]
    assert is_prefix_free(every) and kraft_sum(map(len, every)) <= 1
    assert all(
        arithmetic_decode(bits, _markov, 5, precision=10) == list(s)
        for bits, s in zip(every, itertools.product(range(3), repeat=5), strict=True)
    )


# -- pictures


def test_a_trie_has_its_leaves_where_their_words_lead():
    code = huffman([0.4, 0.3, 0.2, 0.1])
    ax = plotting.trie(code.trie, names="abcd")
    labels = {text.get_text(): text.get_position() for text in ax.texts}
    for name, word in zip("abcd", code.words, strict=True):
        x, y = labels[name]
        assert y == -len(word)  # the leaf's place is the middle of its interval
        assert x == pytest.approx((int(word, 2) + 0.5) / 2 ** len(word))
    assert ax.get_title() == "4 words, Kraft sum 1"
    with pytest.raises(ValueError, match="names: expected one for each symbol"):
        plotting.trie(code.trie, names="abc")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: entropy([0.5, 0.6]), "p: expected probabilities of sum 1"),
        (lambda: entropy([]), "p: expected probabilities of sum 1"),
        (lambda: entropy([1.5, -0.5]), "p: expected probabilities of sum 1"),
        (lambda: entropy([np.nan, 1.0]), "p: expected probabilities of sum 1"),
        (lambda: cross_entropy([1.0], [0.5, 0.5]), r"q: expected shape \(1,\)"),
        (lambda: conditional_entropy([0.5, 0.5]), "joint: expected a table of at least two axes"),
        (lambda: PrefixCode(()), "words: expected words of 0 and 1"),
        (lambda: PrefixCode(("0", "12")), "words: expected words of 0 and 1"),
        (lambda: PrefixCode(("0", "0")), "begins"),
        (lambda: canonical([]), "lengths"),
        (lambda: shannon([1.0, 0.0]), "p: expected probabilities of more than 0, got 0 for symbol 1"),
        (lambda: huffman([[0.5], [0.5]]), "p: expected a probability for each symbol"),
        (lambda: PrefixCode(("0", "1")).expected_length([1.0]), "p: expected a probability for each of 2 words"),
        (lambda: PrefixCode(("0", "1")).encode([2]), "symbols: expected integers from 0 to 1, got 2"),
        (lambda: PrefixCode(("00", "1")).decode("01"), "bits: no word goes on as they do at 1"),
        (lambda: PrefixCode(("00", "1")).decode("0"), "bits: they end within a word"),
        (lambda: PrefixCode(("00", "1")).decode("2"), "bits: expected 0 and 1"),
        (lambda: PrefixCode(("",)).decode("0"), "bits: the code has one symbol"),
        (lambda: blocks([1.0], 0), "size"),
        (lambda: elias_gamma(0), "n"),
        (lambda: golomb(-1, 2), "n"),
        (lambda: golomb(1, 0), "m"),
        (lambda: golomb_size(1.0), "theta"),
        (lambda: integer_cdf(np.full(300, 1 / 300), 8), "p: expected fewer than"),
        (lambda: arithmetic_encode([3], _markov), "symbols: expected integers from 0 to 2 at 0, got 3"),
        (lambda: arithmetic_decode("012", _markov, 3), "bits: expected 0 and 1"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_public_name_is_tested():
    source = "".join(
        (Path(__file__).parent / f"test_{name}.py").read_text() for name in ("codes", "codec", "byte_files")
    )
    assert all(name in source for name in compression.__all__ if name != "Trie")
