"""Kept so that handlers of the thread-based SDK move over by changing the import root; see `durapool.results`."""
