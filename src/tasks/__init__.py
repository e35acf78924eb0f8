"""One LightningModule a task: loss, optimiser, predictions as rows."""
