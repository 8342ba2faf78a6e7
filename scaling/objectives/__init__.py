"""What is learned. Every objective is one file with the same signature
(`scaling.objectives.interface.Objective`).
"""
