"""lava-nc as the judge: it runs an integer program in a worker process of its own interpreter, and we compare."""
