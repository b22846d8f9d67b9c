"""The columnar event mirror: how events lie in chunks, how sorted runs are merged. Arrays in, arrays out; no SQL."""
