"""Multilayer perceptrons as a stacked network, with every derivative in closed form and no autograd."""
