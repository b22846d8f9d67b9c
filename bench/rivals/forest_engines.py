"""Other engines for forests, one thread each, in an environment of their own, whose Python runs this file.

python forest_engines.py MODEL ROWS: answers one line of JSON for each line on standard input.
  engines           {name: seconds to load or compile, or why it is not there}
  time NAME         seconds of raw scores of all rows
  answer PATH NAME  the same, scores saved
Each takes rows in the form that it is fastest with.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

Predict = Callable[[], Any]


def lightgbm_float64(model: str, x: Any) -> Predict:
    lightgbm = import_module("lightgbm")

    booster, rows = lightgbm.Booster(model_file=model), x.astype(np.float64)
    return lambda: booster.predict(rows, raw_score=True, num_threads=1, predict_disable_shape_check=True)


def lightgbm_float32(model: str, x: Any) -> Predict:
    lightgbm = import_module("lightgbm")

    booster = lightgbm.Booster(model_file=model)
    return lambda: booster.predict(x, raw_score=True, num_threads=1, predict_disable_shape_check=True)


def lleaves_compiled(model: str, x: Any) -> Predict:
    lleaves = import_module("lleaves")

    made, rows = lleaves.Model(model_file=model), x.astype(np.float64)
    made.compile()
    return lambda: made.predict(rows, n_jobs=1)


def tl2cgen_compiled(model: str, x: Any) -> Predict:
    tl2cgen = import_module("tl2cgen")
    treelite = import_module("treelite")

    made = treelite.frontend.load_lightgbm_model(model)
    path = os.path.join(os.path.dirname(model), "forest.so")
    parameters = {"parallel_comp": 4, "quantize": 0}
    tl2cgen.export_lib(made, toolchain="gcc", libpath=path, params=parameters)
    predictor, rows = tl2cgen.Predictor(path, nthread=1), tl2cgen.DMatrix(x.astype(np.float64))
    return lambda: np.ravel(predictor.predict(rows, pred_margin=True))


def onnx_runtime(model: str, x: Any) -> Predict:
    lightgbm = import_module("lightgbm")
    onnxmltools = import_module("onnxmltools")
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else its import starts a thread that reports to its maker
    onnxruntime = import_module("onnxruntime")
    types = import_module("onnxmltools.convert.common.data_types")

    booster = lightgbm.Booster(model_file=model)
    kind = [("x", types.FloatTensorType([None, x.shape[1]]))]
    graph = onnxmltools.convert_lightgbm(booster, initial_types=kind, zipmap=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: np.ravel(session.run(None, {"x": x})[0])


ENGINES = {
    "LightGBM, float64 rows": lightgbm_float64,
    "LightGBM, float32 rows": lightgbm_float32,
    "lleaves": lleaves_compiled,
    "tl2cgen": tl2cgen_compiled,
    "ONNX Runtime": onnx_runtime,
}


def main() -> None:
    model, rows = sys.argv[1:]
    x = np.load(rows)
    ready: dict[str, Predict] = {}
    state: dict[str, float | str] = {}
    # What an engine prints is no answer of ours.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name, make in ENGINES.items():
        started = time.perf_counter()
        try:
            ready[name] = make(model, x)
            ready[name]()
            state[name] = time.perf_counter() - started
        except Exception as error:  # an engine that is not there, or not for this model
            state[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:100]
            ready.pop(name, None)
    for line in sys.stdin:
        what, _, rest = line.strip().partition(" ")
        found: object = state
        if what == "time":
            started = time.perf_counter()
            ready[rest]()
            found = time.perf_counter() - started
        elif what == "answer":
            path, _, name = rest.partition(" ")
            np.save(path, np.asarray(ready[name](), np.float64))
            found = path
        print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main()
