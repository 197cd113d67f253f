"""The science: one file per idea, in the papers' notation. Knows neither toolkit."""
