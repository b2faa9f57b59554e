"""The parent's side of the process executor. Nothing outside this package and `executors.process` knows processes.

pool       the state machine: workers, places, open batches
drive      which thread runs the loop
supervisor the link to the process that forks workers
wire       frames and messages, both ways
cargo      what is sent of a batch: functions, items, settings
machine    CPUs, thread counts of BLAS, what the platform offers
"""
