"""Progress: what an execution is doing, sampled from outside a few times a second.

    executors --watched(batch)--> Observer <--snapshot()-- Reporter (a thread) --show()--> View
     observer.py                                           reporter.py, meter.py           terminal, notebook, lines

Nothing is counted for it: coordinators and pools hold these numbers anyway, and a thread reads them without locks. So a
batch costs one entry in a list, a branch nothing, and the numbers of one snapshot may be a branch apart.

`observer` and `model` are imported by the executors, in workers too, and import nothing heavy.
"""
