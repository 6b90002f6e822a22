"""Takes on disk: read and write recordings, offline."""
