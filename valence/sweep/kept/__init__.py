"""Keep a sweep's results and regressors.

Each file is checked when it is read back.
"""
