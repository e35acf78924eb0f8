"""Networks that write captions. Each file is one; `src.captions.decoding` says what they share."""
