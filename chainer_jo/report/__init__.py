"""Finished trials as tables, differences to the paper, figures and a README; trains nothing."""
