"""Rivals at equal compute: random search, early stopping, Bayesian optimisation and populations, beside T1-T2."""
