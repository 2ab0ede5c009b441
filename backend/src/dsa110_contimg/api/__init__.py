"""The registry over HTTP: what a program reads instead of the database's files."""
