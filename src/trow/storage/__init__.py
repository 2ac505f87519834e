"""Blobs: bytes by digest, in memory and on a filesystem."""
