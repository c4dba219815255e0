"""Lemma 1 against a linear network trained on digits."""
