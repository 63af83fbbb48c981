"""The report's sections: one file each, with its table and its pictures together."""
