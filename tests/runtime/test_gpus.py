"""Which device code of a wheel every GPU from 7.0 to 12.1 runs, with each driver that supports it.

The device code is real, by the matrix's compilers, though of a kernel that does nothing; the driver
is a stand-in that takes code as the real one does, by its header, and refuses a block that is to
have more shared memory than the GPU has. So a kernel that a launcher sized for another GPU, or code
that was chosen for one that cannot run it, ends in an error here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rich", reason="what builds device code is not installed")
pytest.importorskip("ziglang", reason="the releases' compiler, ziglang, is not installed")

from ci import matrix, native
from tests.ci.support.toolchain import ROOT, device_code
from tests.runtime.stand_in import GPUS, Gpu, StandIn

DRIVERS = (11080, 12010, 12080, 12090, 13000)
VARIANTS = {"cu118": 11080, "cu121": 12010}  # and the oldest driver that its PTX asks for


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The code folder of each variant, as a wheel has it."""
    known = matrix.load()
    folders = {}
    for variant in VARIANTS:
        cuda = known.variant(variant)
        folders[variant] = tmp_path_factory.mktemp(variant)
        processor = known.main.processor
        archs = [(arch, "cubin") for arch in cuda.archs(processor)]
        archs += [(arch, "ptx") for arch in cuda.ptx(processor)]
        for (folder, suffix), (arch, _) in zip(native.code_folders(cuda, processor), archs):
            data = device_code(variant, arch, suffix)
            for source in (ROOT / "csrc" / "kernels").rglob("*.cu"):
                path = folders[variant] / folder / f"{source.stem}.{suffix}"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
    return folders


EXPECTED = {
    "cu118": {
        "7.0": "sm_70",
        "7.2": "sm_70",
        "7.5": "sm_75",
        "8.0": "sm_80",
        "8.6": "sm_86",
        "8.7": "sm_86",
        "8.9": "sm_89",
        "9.0": "sm_90",
        **dict.fromkeys(("10.0", "10.3", "11.0", "12.0", "12.1"), "compute_90"),
    },
}
EXPECTED["cu121"] = {
    **EXPECTED["cu118"],
    "9.0": "sm_90a",
    "10.0": "sm_100",
    "10.3": "sm_100",
    "12.0": "sm_120",
    "12.1": "sm_120",
}

# Decode (one query token to a sequence) and prefill (64) for heads of every size, and the ops whose
# kernels ask for memory of their own.
RUN = """\
from vllm import ops
T = torch.Tensor
found = []
def workspace(sizes):
    yield T("int32", sizes.items, sizes.item_ints)
    yield T("int32", sizes.arrivals)
    yield T("float32", sizes.partials)
def attend(dtype, head, queries):
    blocks = _C.attention_blocks(head, 0)
    sizes = ops.attention_plan_sizes(queries, 1, 8, 2, head, blocks)
    cache = T(dtype, 64, 16, 2, head)
    tiles = 0 if queries == 1 else (queries * 4 + 63) // 64
    _C.paged_attention(
        T(dtype, queries, 8, head), T(dtype, queries, 8, head), cache, cache,
        T("int32", 1, 64), T("int32", 1), T("int32", 2), 0.1, 0, 0.0, None, 1.0, 1.0,
        *workspace(sizes),
        0 if tiles else 1, blocks if tiles else 1, tiles, False, 0)
def attend_newest(dtype, heads, head):
    blocks = _C.attention_blocks(head, 0)
    cluster = _C.attention_cluster(1, heads, 2, head, blocks, 0)
    sizes = ops.attention_plan_sizes(1, 1, heads, 2, head, blocks)
    cache = T(dtype, 64, 16, 2, head)
    _C.rotary_and_attention(
        T(dtype, 1, heads, head), T("int64", 1), T(dtype, 1, heads, head), T(dtype, 1, 2, head),
        T(dtype, 1, 2, head), T(dtype, 8, head), cache, T(dtype, 64, 16, 2, head), T("int64", 1),
        T("int32", 1, 64), T("int32", 1), T("int32", 2), 0.1, 0, 0.0, None, None, 0.0,
        *workspace(sizes),
        1, blocks, 0, True, cluster)
for dtype in ("float16", "bfloat16", "float32"):
    for head in (64, 80, 96, 128, 256):
        for queries in (1, 64):
            attend(dtype, head, queries)
    for heads in (4, 16):
        for head in (64, 128, 256):
            attend_newest(dtype, heads, head)
    rows = T(dtype, 8, 4096)
    _C.rms_norm(rows, T(dtype, 8, 4096), T(dtype, 4096), 1e-6)
found = _C.loaded_kernels()
"""


def drivers_of(gpu: Gpu, variant: str) -> list[int]:
    """The oldest and newest driver that know the GPU, and the PTX if it is given that."""
    needs_ptx = EXPECTED[variant][str(gpu)].startswith("compute")
    oldest = max(gpu.cuda, VARIANTS[variant] if needs_ptx else 0)
    known = [driver for driver in DRIVERS if driver >= oldest]
    return sorted({known[0], known[-1]})


@pytest.mark.parametrize("gpu", GPUS, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_gpu_runs_what_it_is_given(
    stand_in: StandIn, code: dict[str, Path], variant: str, gpu: Gpu
) -> None:
    expected = EXPECTED[variant][str(gpu)]
    for driver in drivers_of(gpu, variant):
        loaded = stand_in.run(gpu, driver, code[variant], RUN)
        assert {Path(path).parent.name for _, path in loaded} == {expected}, driver
        launches = stand_in.launches()
        newest = {name for name, _ in launches if name.startswith("attend_newest_bf16_")}
        apart = {name for name, _ in launches if name.startswith("rotary_and_cache_bf16")}
        # From 8.0 on one kernel does what else takes two, wherever a block's memory suffices.
        if gpu.capability < (8, 0):
            assert not newest
            assert apart
        elif gpu.block_kib > 160 and expected.startswith("sm_"):
            assert newest == {f"attend_newest_bf16_{head}" for head in (64, 128, 256)}
            assert not apart
        else:
            assert {"attend_newest_bf16_64", "attend_newest_bf16_128"} <= newest
        of_newest = sum(name.startswith("attend_newest") for name, _ in launches)
        assert len(launches) == 33 + 36 - of_newest
        assert all(shared <= gpu.block_kib * 1024 for _, shared in launches)
        of_bfloat16 = ("paged_decode_bf16_", "paged_prefill_bf16_")
        cores = {name for name, _ in launches if name.startswith(of_bfloat16)}
        # Code of the GPU's own kind, 8.0 and newer, uses tensor cores for every head size.
        if gpu.capability >= (8, 0) and expected.startswith("sm_"):
            by_wgmma = {
                name
                for name, _ in launches
                if name.startswith("wgmma_prefill_") and "_bf16_" in name
            }
            assert len(cores) + len(by_wgmma) == 10
            # So few items have a kernel of their own, for these head sizes.
            few = {f"wgmma_prefill_few_bf16_{head}" for head in (64, 128, 256)}
            many = {f"wgmma_prefill_bf16_{head}" for head in (80, 96)}
            assert by_wgmma == (few | many if expected == "sm_90a" else set())


@pytest.mark.parametrize("variant", VARIANTS)
def test_ptx_for_another_gpu_goes_without_what_does_not_fit(
    stand_in: StandIn, code: dict[str, Path], variant: str, tmp_path: Path
) -> None:
    """PTX of 9.0 was compiled for blocks of 227 KiB, and a GPU of 12.x has 99."""
    (tmp_path / "compute_90").symlink_to(code[variant] / "compute_90")
    (rtx,) = (gpu for gpu in GPUS if gpu.capability == (12, 0))
    stand_in.run(rtx, 13000, tmp_path, RUN)
    names = {name for name, _ in stand_in.launches()}
    assert {"paged_decode_bf16_80", "paged_decode_bf16_96"} <= names
    assert names.isdisjoint({f"paged_decode_bf16_{head}" for head in (64, 128, 256)})
    assert "paged_decode_bf16" in names


TRY = """\
try:
    T = torch.Tensor
    _C.rms_norm(T("float16", 8, 64), T("float16", 8, 64), T("float16", 64), 1e-6)
    found = ""
except RuntimeError as error:
    found = str(error)
"""


def test_an_old_driver_and_ptx_that_is_too_new_are_named(
    stand_in: StandIn, code: dict[str, Path]
) -> None:
    newer = Gpu((13, 0), 100, 228, 227, 12000)
    said = stand_in.run(newer, 12000, code["cu121"], TRY)
    for part in (
        "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        "compute_90/rms_norm.ptx",
        "cuda:0 (G, compute capability 13.0; driver of CUDA 12.0)",
        "It is PTX of version 8.1",
        "Update the driver",
    ):
        assert part in said


def test_a_gpu_without_code_is_told_what_there_is_and_what_it_takes(
    stand_in: StandIn, tmp_path: Path
) -> None:
    for name in ("sm_90a", "sm_100f", "compute_100a"):
        (tmp_path / name).mkdir()
    (rtx,) = (gpu for gpu in GPUS if gpu.capability == (12, 1))
    said = stand_in.run(rtx, 12090, tmp_path, TRY)
    for part in (
        "compute capability 12.1; driver of CUDA 12.9",
        "holds compute_100a, sm_100f, sm_90a",
        "it takes sm_120 to sm_121, or PTX of compute capability 12.1 or lower",
    ):
        assert part in said


def test_a_cubin_that_the_driver_refuses_names_the_driver_that_is_needed(
    stand_in: StandIn, code: dict[str, Path], tmp_path: Path
) -> None:
    """A folder that is called for another arch than the code in it."""
    (tmp_path / "sm_120").symlink_to(code["cu121"] / "sm_100")
    (rtx,) = (gpu for gpu in GPUS if gpu.capability == (12, 0))
    said = stand_in.run(rtx, 12080, tmp_path, TRY)
    for part in ("NO_BINARY_FOR_GPU", "sm_120/rms_norm.cubin", "needs a driver of CUDA 12.8"):
        assert part in said


@pytest.mark.parametrize(
    ("capability", "words"),
    [
        ((12, 1), "compute capability 12.1, runs sm_120"),
        ((11, 0), "runs compute_90, which the driver compiles"),
    ],
)
def test_collect_env_says_what_a_gpu_runs(
    stand_in: StandIn, code: dict[str, Path], capability: tuple[int, int], words: str
) -> None:
    (gpu,) = (gpu for gpu in GPUS if gpu.capability == capability)
    script = "del sys.modules['torch']\nfrom vllm import collect_env\nfound = collect_env.collect()"
    said = dict(stand_in.run(gpu, 13000, code["cu121"], script))
    assert words in said["cuda:0"]
    assert said["NVIDIA driver"].endswith("up to CUDA 13.0")
    archs = "sm_70 sm_75 sm_80 sm_86 sm_89 sm_90 sm_90a sm_100 sm_120 compute_90"
    assert said["GPU code"] == f"{archs}, in {code['cu121']}"
