"""Functions from tables to estimates with their intervals."""
