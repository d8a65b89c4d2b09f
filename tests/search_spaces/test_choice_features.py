"""Columns that stand for choices."""

from __future__ import annotations

import numpy as np

from search_spaces.space import Choice, choice_features

CHOICES = (Choice("kernel", (7, 3, 5)), Choice("kind", ("none", "thin", "wide")), Choice("only", (4,)))


def test_a_number_is_its_place_and_anything_else_a_column_for_each_option() -> None:
    codes = np.array([[0, 2, 0], [1, 0, 0], [2, 1, 0]])
    expected = [[1.0, 0, 0, 1, 0], [0.0, 1, 0, 0, 0], [0.5, 0, 1, 0, 0]]
    np.testing.assert_array_equal(choice_features(CHOICES, codes), expected)


def test_there_is_a_column_even_where_nothing_is_chosen() -> None:
    np.testing.assert_array_equal(choice_features((), np.zeros((2, 0), dtype=np.int64)), np.zeros((2, 1)))
    assert choice_features(CHOICES, np.zeros((0, 3), dtype=np.int64)).shape == (0, 5)
