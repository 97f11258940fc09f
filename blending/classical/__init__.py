"""The classical rules: averages, medians, residual, Wiener filter."""
