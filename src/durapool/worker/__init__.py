"""The child's side of the process executor: supervisor, channel to the parent, one branch at a time.

Imports no store, no coordinator and no pool but the wire (a test asserts it), so that a worker starts fast.
"""
