"""What carries a plan out: one step (`run_step`), all of them in this process (`local`), or as jobs
(`slurm`).
"""
