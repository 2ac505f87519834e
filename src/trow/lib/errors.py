"""What stops a command."""


class StartError(Exception):
    """Trow cannot run; the message says why and what to do."""
