"""Do the proving ground's checks catch wrong kernels?  ``python -m tests.mutation`` tries and reports."""
