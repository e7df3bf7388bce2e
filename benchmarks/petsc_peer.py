"""PETSc's solvers in a process of their own, by the interpreter that has petsc4py (Debian's, usually).

`benchmarks/solvers.py` starts it with a file of matrices and sends one line per measurement, ``<ksp> <pc>``; the answer
is one line of JSON: seconds of wall and processor for all systems, set-up of preconditioners included. Solutions of the
first measurement of each pair go to ``<file>.<ksp>.<pc>.npy``. Matrices are assembled beforehand.
"""

import json
import sys
import time


def serve(path: str, rtol: float, limit: int) -> None:
    """Answer lines until the input ends."""
    import numpy as np
    import petsc4py

    petsc4py.init(["petsc"])
    from petsc4py import PETSc

    data = np.load(path)
    rows, columns, n = data["rows_at"], data["columns"], len(data["rows_at"]) - 1
    matrices = [PETSc.Mat().createAIJ((n, n), csr=(rows, columns, values)) for values in data["values"]]
    vectors = [PETSc.Vec().createWithArray(f.copy()) for f in data["rhs"]]
    answers = [PETSc.Vec().createSeq(n) for _ in vectors]
    written = set()
    print(json.dumps({"version": ".".join(map(str, PETSc.Sys.getVersion()))}), flush=True)
    for line in sys.stdin:
        method, preconditioner = line.split()
        start, start_cpu = time.perf_counter(), time.process_time()
        for matrix, f, u in zip(matrices, vectors, answers, strict=True):
            solver = PETSc.KSP().create()
            solver.setOperators(matrix)
            solver.setType(method)
            solver.getPC().setType(preconditioner)
            if method == "gmres":
                solver.setGMRESRestart(40)
                solver.setPCSide(PETSc.PC.Side.RIGHT)
            solver.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
            solver.setTolerances(rtol=0.95 * rtol, max_it=limit)
            solver.solve(f, u)
            solver.destroy()
        spent = {"wall": time.perf_counter() - start, "cpu": time.process_time() - start_cpu}
        if line not in written:
            written.add(line)
            np.save(f"{path}.{method}.{preconditioner}.npy", np.stack([u.getArray().copy() for u in answers]))
        print(json.dumps(spent), flush=True)


if len(sys.argv) == 4:
    serve(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
