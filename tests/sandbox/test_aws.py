"""The embedded AWS comes up with what template.yaml declares, and goes without a trace."""
