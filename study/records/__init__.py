"""What a results folder holds: paths, tables, the manifest. The one schema for writers and readers."""
