"""Whole files on a disk or in an object store, and the lease that keeps one driver to a study."""
