"""What happens to whom when a task dies: the same probes for every pool. The table is made by `perf.faults_table`."""
