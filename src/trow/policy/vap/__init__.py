"""Policies as `ValidatingAdmissionPolicy`: what the API server enforces by itself."""
