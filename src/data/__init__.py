"""Images in, uint8 batches out: decoding, preprocessing, augmentation, datasets, bundled samples."""
