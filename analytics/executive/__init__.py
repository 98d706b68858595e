"""The executive dashboard: its figures, formulas and rules, and its CSV and PDF forms."""
