"""Models and the processes behind them.


May import runs, db and core. An engine is a folder of its own with an `engine.py`; its heavy packages live
in the child process that the engine starts (`worker.py`), never in the daemon.
"""
