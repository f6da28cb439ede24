"""Clauses of findings: their numbers are the sums of the counts, and names of settings keep their case."""

from posterity.inference.convergence import wording


def test_divergences_are_summed_over_the_chains_and_the_worst_chain_is_named():
    assert wording.divergent_clause([1, 7, 2], 100) == "10 of 300 transitions (3.33 %) diverged, 7 of them in chain 1"


def test_five_names_are_listed_and_further_ones_indicated():
    assert wording.some_of(range(5)) == "0, 1, 2, 3, 4"
    assert wording.some_of(range(6)) == "0, 1, 2, 3, 4, ..."
    assert "2 of 4 chains never moved (chain 1, 3:" in wording.never_moved_clause([1, 3], 4)


def test_the_lowest_acceptance_rate_stands_beside_the_threshold():
    text = wording.low_acceptance_clause([0], 4, 0.123)
    assert text == "1 of 4 chains accept less than 50 % of their steps (chain 0: acceptance rate down to 0.12)"


def test_a_single_chain_needs_twice_the_draws_since_its_halves_are_compared():
    assert wording.too_few_draws_clause(4, 3) == "R-hat needs 4 draws of each chain, got 3"
    assert wording.too_few_draws_clause(1, 7) == "R-hat needs 8 draws of a single chain, got 7"


def test_a_sentence_has_a_capital_letter_unless_it_begins_with_a_setting():
    assert wording.sentence("run 4 chains or more (chains=4)") == "Run 4 chains or more (chains=4)."
    assert wording.sentence("max_tree_depth was reached") == "max_tree_depth was reached."
    assert wording.sentence("draws=20 are few") == "draws=20 are few."
