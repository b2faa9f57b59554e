"""One module for each benchmark; `perf.__main__` lists them."""
