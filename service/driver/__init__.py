"""Runs a study: hands work to an executor, and commits what comes back."""
