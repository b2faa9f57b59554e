"""The benchmarks: `python -m perf NAME ...`, see README.md in this folder."""
