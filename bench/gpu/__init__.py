"""``python -m bench gpu``: judge and time everything on a machine with a GPU, and write one report.

Each step runs its work in other processes and only reads what they print or write: a kernel that hangs is killed, one
that breaks the CUDA context breaks its own process.  ``tools`` is the door to the machine; tests give a stand-in.
"""
