"""The report of a caption run, and an album of captioned pictures."""
