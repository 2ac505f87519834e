"""The Kubernetes API, as far as the registry needs it."""
