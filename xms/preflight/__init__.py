"""Whether a VM can be moved: rules over facts that others gathered. Begin with `rule.py`, then read a category."""
