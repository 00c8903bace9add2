"""Services of the machine: files, leases, worker processes, memory, device, logging, progress bars."""
