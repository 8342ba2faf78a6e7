"""Designed scaling studies of 3D brain-MRI foundation models.

Data flows one way; a folder imports only from those above it:

    files          the one writer: whole files that survive a kill or a loss of power
    study/         what to run: Study, a frozen config, and the ladder of sizes
    costs/         what it costs: parameters, FLOPs, memory, hours, the mesh that fits
    runs/          the plan: a list of Steps with every number resolved; run directories, locks
    processes/     processes of a run: how they find each other, end together, share work
    data/          NIfTI trees -> checked, normalised volume cache -> batches
    phantom/       the synthetic cohort, in the layouts of the challenges
    models/        volumes -> tokens: ViTs and 3D U-Nets behind one interface, decoders, heads
    augmentation/  random changes of crops, on the device
    objectives/    what is learned: masked autoencoding, contrast, both, across sequences
    tracking/      metrics.jsonl and Weights & Biases
    training/      mesh and shardings, batches on the devices, optimiser, loop, checkpoints
    transfer/      few-shot fine-tuning, probes, classical controls -> one tidy results table
    handin/        submission containers, embeddings, scores of predictions
    laws/          results table -> fitted curves (curves/) and verdicts (verdicts/); no MRI
    report/        tables, curves, verdicts -> figures and one HTML page
    engines/       carry a Plan out
    cli/           the verbs

Start reading at `scaling.study.config.Study`, then `scaling.runs.plan.make_plan` and
`scaling.engines.run_step.run_step`.
"""
