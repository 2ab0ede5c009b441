"""Bytes on disk to objects and back."""
