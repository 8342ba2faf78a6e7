"""Designed scaling studies of 3D brain-MRI foundation models.

Data flows one way; a folder imports only from those above it:

    study/       what to run: Study (frozen config) -> Plan, a list of Steps with every number resolved; run directories
    data/        NIfTI trees -> checked, normalised volume cache -> batches; the synthetic cohort
    models/      volumes -> tokens: ViTs and 3D U-Nets behind one interface, their decoders, heads
    objectives/  what is learned: masked autoencoding, contrast, both, across sequences; the losses of the tasks
    training/    how it runs: mesh and shardings, batches on the devices, optimiser, loop, checkpoints, tracking
    transfer/    few-shot finetuning, probes, classical controls -> one tidy results table; what is handed in (export, embed)
    laws/        results table -> fitted curves, verdicts; knows nothing of MRI
    report/      tables, curves, verdicts -> figures and one HTML page
    engines/     carry a Plan out
    cli/         the verbs

Start reading at `scaling.study.config.Study`, then `scaling.study.plan.make_plan` and `scaling.engines.step.run_step`.
"""
