"""What a checkpoint is worth: few-shot finetuning, probes, controls, predictions and metrics on the
tasks.
"""
