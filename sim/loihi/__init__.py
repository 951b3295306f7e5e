"""The integer law of lava-nc's fixed-point models: a readable reference and a fast engine, bit for bit equal."""
