"""From scores to decisions that can be trusted: thresholds, tails, scales, class rules; out-of-fold rows only.

Nothing here looks at test scores or knows a model: arrays and tables of numbers go in, plain values come out.
"""
