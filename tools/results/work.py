"""A work folder of a measurement: what lies in it is not made again, so a script may be stopped at any time."""
import os
import subprocess
import sys
import threading


class Work:
    def __init__(self, folder, judge):
        """Makes the folder, and the judge kit's modules importable."""
        if not os.path.exists(os.path.join(judge, "judge.py")):
            sys.exit(f"--judge '{judge}' holds no judge.py; name the folder of the judge kit")
        os.makedirs(folder, exist_ok=True)
        sys.path.insert(0, judge)
        sys.dont_write_bytecode = True
        self.folder = folder

    def at(self, *parts):
        """A path in the folder, whose own folder is there."""
        path = os.path.join(self.folder, *parts)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def run_all(self, jobs, side_by_side=1):
        """jobs: (output, command); those whose output is there are skipped, the others run in order. Ends the script when one fails."""
        todo = [j for j in jobs if not os.path.exists(j[0])]
        lock, failed = threading.Lock(), []

        def worker():
            while True:
                with lock:
                    if not todo or failed:
                        return
                    out, command = todo.pop(0)
                r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                print(("done " if r.returncode == 0 else "FAILED ") + os.path.relpath(out, self.folder), flush=True)
                if r.returncode != 0:
                    print(" ".join(command) + "\n" + r.stderr[-2000:], flush=True)
                    failed.append(out)
        workers = [threading.Thread(target=worker) for _ in range(side_by_side)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        if failed:
            sys.exit(2)
