"""The files of a results folder: their paths, tables, documents and trial records, for writers and readers."""
