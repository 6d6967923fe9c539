"""The demonstration's events, cut from a public data set."""
