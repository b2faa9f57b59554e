"""What the methods of a context do: one module for each kind of operation.

Each takes a `Call` (operations/replay.py), compares it with the record, and either gives back what was recorded or does
the work and records it. The same code runs in the parent and in workers; only the journal behind the scope differs.
"""
