"""What the method needs of the machine: files, locks, processes, memory, devices, logging."""
