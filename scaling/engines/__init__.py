"""What carries a plan out: one step (`run_step`), or all of them in this process (`local`)."""
