"""Multilayer perceptrons, with every derivative in closed form."""
