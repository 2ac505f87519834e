"""TLS: where connections are ended, and the authority for certificates of Trow's own."""
