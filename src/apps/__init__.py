"""Programs for people: one picture, one question, one answer."""
