"""Tests under a limit on the processor's instructions (``make test ISA=avx2``)."""

import os

LIMIT = "ONEDNN_MAX_CPU_ISA"

if LIMIT in os.environ:
    import torch

    # torch's oneDNN reads the limit once, now. OpenVINO's must not see it: OpenVINO itself asks the processor, and
    # crashes where its oneDNN then refuses what it counts on.
    torch.ops.mkldnn._is_mkldnn_bf16_supported()
    os.environ[f"TORCH_{LIMIT}"] = os.environ.pop(LIMIT)
