"""The small files beside the tables: what a study is, how far it is, what happened, what was asked of it."""
