"""What a registry does, as use cases over ports: pull, push, publish, browse."""
