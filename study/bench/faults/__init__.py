"""A seeded campaign of faults over tiny studies: kills, full disks and damaged files."""
