"""Tables of patients as they circulate: reading files, telling their codings apart, checking the label."""
