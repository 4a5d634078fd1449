"""Reports on finished trials: tables, differences from the paper, figures and a README."""
