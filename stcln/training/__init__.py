"""Training: pre-training by masking and fine-tuning of cells, resumable at every step."""
