import os

# ONNX Runtime reports to its maker from its import on, unless this says otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
