"""What a GPU can do, by its vendor's datasheet."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, frozen

from mdmkit.errors import RecipeError
from mdmkit.suggest import did_you_mean


@frozen(kw_only=True)
class Gpu:
    """One GPU.

    Attributes:
        name: what people call it.
        tflops: dense bfloat16 matrix products with float32 accumulation, 10¹² FLOPs a second.
        memory: bytes. The GB of a datasheet are taken as 10⁹, a little less than is there.
        bandwidth: of that memory, bytes a second; None where it is not known.
    """

    name: str
    tflops: float
    memory: float
    bandwidth: float | None = None


# Where a datasheet states bfloat16 with sparsity, the dense figure is half of it.
GPUS: Mapping[str, Gpu] = {
    # NVIDIA H100 Tensor Core GPU datasheet, SXM: 1,979 TFLOPS with sparsity, 80 GB, 3.35 TB/s.
    "h100": Gpu(name="H100 SXM", tflops=989.5, memory=80e9, bandwidth=3.35e12),
    # NVIDIA H200 Tensor Core GPU datasheet, SXM: 1,979 TFLOPS with sparsity, 141 GB, 4.8 TB/s.
    "h200": Gpu(name="H200 SXM", tflops=989.5, memory=141e9, bandwidth=4.8e12),
    # NVIDIA A100 Tensor Core GPU datasheet, SXM: 312 TFLOPS dense; 80 GB, 2,039 GB/s.
    "a100-80": Gpu(name="A100 SXM 80GB", tflops=312, memory=80e9, bandwidth=2.039e12),
    # NVIDIA A100 Tensor Core GPU datasheet (2020): 312 TFLOPS dense; 40 GB, 1,555 GB/s.
    "a100-40": Gpu(name="A100 SXM 40GB", tflops=312, memory=40e9, bandwidth=1.555e12),
    # NVIDIA L40S datasheet: 362.05 TFLOPS dense, 48 GB, 864 GB/s.
    "l40s": Gpu(name="L40S", tflops=362.05, memory=48e9, bandwidth=0.864e12),
    # NVIDIA Ada GPU Architecture whitepaper, table of the RTX 4090: BF16 with FP32 accumulate
    # 165.2 TFLOPS dense, 24 GB, 1,008 GB/s.
    "4090": Gpu(name="RTX 4090", tflops=165.2, memory=24e9, bandwidth=1.008e12),
}


def find_gpu(name: str, *, memory: float | None = None, tflops: float | None = None) -> Gpu:
    """The GPU of that name, with the given figures instead of the table's.

    Args:
        name: a key of `GPUS`; any name where both figures are given.
        memory: in GB of 10⁹ bytes.
        tflops: dense bfloat16, 10¹² FLOPs a second.

    Raises:
        RecipeError: for a name that is not known.
    """
    known = GPUS.get(name.lower())
    if memory is not None and tflops is not None:
        return Gpu(name=name if known is None else known.name, tflops=tflops, memory=memory * 1e9)
    if known is None:
        raise RecipeError(
            f'--gpu: no "{name}" in the table{did_you_mean(name, GPUS)}; known: '
            f"{', '.join(GPUS)}. Of another, give both --gpu-memory and --gpu-tflops"
        )
    return evolve(
        known,
        tflops=known.tflops if tflops is None else tflops,
        memory=known.memory if memory is None else memory * 1e9,
    )
