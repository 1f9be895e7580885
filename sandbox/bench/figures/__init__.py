"""The figures: one a file, each measures ours and its bare counterpart in turn."""
