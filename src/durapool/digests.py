"""BLAKE2b, which ids, seeds and names of files are made with, without the rest of hashlib.

`hashlib` loads OpenSSL, 2 to 10 ms in every interpreter, and gives this very function for BLAKE2b all the same.
"""

from __future__ import annotations

try:
    from _blake2 import blake2b
except ImportError:  # another implementation of Python
    from hashlib import blake2b

__all__ = ["blake2b"]
