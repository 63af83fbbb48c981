"""Stacks of networks that are trained side by side, and their derivatives."""
