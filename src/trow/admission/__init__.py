"""Kubernetes asks whether something may run; the policies answer."""
