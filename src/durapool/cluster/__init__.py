"""Workers on other machines: the same pool, the same worker code, carried by an engine such as Dask or Ray.

    pool --a socket for each worker--> RemoteLink --Engine--> Agent on a slot of the cluster --> worker processes there

`engine` is the protocol between the neutral parts (`link` in the parent, `agent` on a node) and an engine's module
(`dask`, `ray`), which alone imports the engine.
"""
