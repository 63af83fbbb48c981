"""The command line ``t1t2``: one file for each family of commands."""
