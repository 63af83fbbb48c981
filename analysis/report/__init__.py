"""The report: one page with tables and pictures, from the statistics of one study or several."""
