"""The integer law of a Loihi-class chip: a readable reference and a fast engine, equal to the last bit."""
