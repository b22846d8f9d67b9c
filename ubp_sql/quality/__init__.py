"""Whether the log itself is right: the statistics behind the rules of data quality, on columns of NumPy alone."""
