"""torch: tensors in, tensors out, and the modules. Skipped where torch is not installed."""

from __future__ import annotations

import copy
import gc
import pickle
from pathlib import Path

import numpy as np
import pytest

import embmap
from test_processes import resident

torch = pytest.importorskip("torch", reason="torch is not installed: its half of the wheel is not tested here")

from embmap.torch import Embedding, EmbeddingBag  # noqa: E402

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "f64": torch.float64}


@pytest.fixture(params=DTYPES)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[embmap.Table, torch.Tensor]:
    weight = torch.randn(300, 17, generator=torch.Generator().manual_seed(1)).to(DTYPES[request.param])
    return embmap.from_numpy(weight, tmp_path / "t.emb"), weight


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_tensors_give_tensors(stored: tuple[embmap.Table, torch.Tensor], dtype: torch.dtype) -> None:
    table, weight = stored
    ids = torch.randint(0, 120, (5, 7)).to(dtype)
    rows = table[ids]
    assert rows.dtype == weight.dtype
    assert torch.equal(rows, weight[ids.long()])
    assert torch.equal(table[ids.T], weight[ids.T.long()])
    assert torch.equal(table[torch.tensor(3)], weight[3])
    rows.zero_()
    assert torch.equal(table[ids], weight[ids.long()]), "it was a copy"


def test_bf16_tensors_need_no_ml_dtypes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    weight = torch.randn(30, 8).bfloat16()
    table = embmap.from_numpy(weight, tmp_path / "t.emb")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    table = embmap.open(table.path)
    assert torch.equal(table[torch.arange(30)], weight)
    assert torch.equal(Embedding(table)(torch.arange(30)), weight)


@pytest.mark.parametrize("asked", ["f32", "f16", "bf16"])
def test_out_and_dtype(stored: tuple[embmap.Table, torch.Tensor], asked: str) -> None:
    table, weight = stored
    ids = torch.arange(299, -1, -1).reshape(20, 15)
    expected = weight[ids].to(DTYPES[asked])
    assert torch.allclose(table.gather(ids, dtype=DTYPES[asked]).double(), expected.double(), rtol=2**-7)
    out = torch.zeros(20, 15, 17, dtype=DTYPES[asked])
    assert table.gather(ids.numpy(), out=out) is out
    assert torch.equal(out, table.gather(ids, dtype=asked))
    wide = torch.zeros(20, 15, 20, dtype=DTYPES[asked])
    table.gather(ids, out=wide[..., :17])
    assert torch.equal(wide[..., :17], out)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"])
def test_tensors_of_8_bits(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    dtype = getattr(torch, name)
    weight = torch.randn(30, 8).to(dtype)
    table = embmap.from_numpy(weight, tmp_path / "t.emb")
    ids = torch.tensor([[3, 29], [0, 3]])
    out = torch.zeros(2, 2, 8, dtype=dtype)
    for found in [table[ids], table.gather(ids, out=out), Embedding(table)(ids), torch.from_dlpack(table)[ids]]:
        assert found.dtype == dtype
        assert torch.equal(found.view(torch.int8), weight.view(torch.int8)[ids])
    assert torch.equal(table.gather(ids, dtype=torch.float32), weight.float()[ids])
    assert torch.equal(embmap.from_numpy(weight, tmp_path / "w.emb", dtype="f32").gather(ids), weight.float()[ids])


def test_tables_as_tensors_in_place(stored: tuple[embmap.Table, torch.Tensor]) -> None:
    table, weight = stored
    shared = torch.from_dlpack(table)
    assert torch.equal(shared, weight)
    again = torch.from_dlpack(table)
    assert shared.data_ptr() == again.data_ptr(), "it is the map"
    table.close()
    assert torch.equal(shared, weight)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16])
def test_large_batches_of_tensors(stored: tuple[embmap.Table, torch.Tensor], dtype: torch.dtype) -> None:
    table, weight = stored
    ids = torch.randint(-300, 300, (70, 80)).to(dtype)
    for given in [ids, ids.abs() % 300, ids.T]:
        assert torch.equal(table[given], weight[given.long()])
        out = torch.zeros(*given.shape, 17, dtype=weight.dtype)
        assert torch.equal(table.gather(given, out=out), weight[given.long()])


def test_ids_and_outputs_of_unusual_tensors(stored: tuple[embmap.Table, torch.Tensor]) -> None:
    table, weight = stored
    base = torch.arange(60).reshape(6, 10)
    for ids in [base[:, ::2], base.T, base[1:, 3], base[0, 0], base[:0], base.expand(2, 6, 10),
                torch.nn.Parameter(base, requires_grad=False)]:
        assert torch.equal(table[ids], weight[ids])
    out = torch.zeros(4, 17, dtype=weight.dtype, requires_grad=True)
    table.gather([1, 2, 3, 4], out=out)
    assert torch.equal(out.detach(), weight[1:5])
    class Mine(torch.Tensor):
        pass
    assert torch.equal(table[torch.arange(3).as_subclass(Mine)], weight[:3])
    assert torch.equal(table.gather(torch.arange(4), out=torch.zeros_like(weight[:4]).as_subclass(Mine)), weight[:4])
    with pytest.raises(TypeError, match="out"):
        table.gather([1], out=torch.zeros(1, 17, dtype=torch.int32))
    with pytest.raises(ValueError, match="strides"):
        table.gather([1, 2], out=torch.zeros(17, 2, dtype=weight.dtype).T)
    with pytest.raises((TypeError, RuntimeError, NotImplementedError)):
        table[torch.zeros(3, dtype=torch.int64, device="meta")]


def test_bool_and_float_tensors_are_refused(stored: tuple[embmap.Table, torch.Tensor]) -> None:
    table, _ = stored
    for ids in [torch.tensor([True, False]), torch.tensor([1.0])]:
        with pytest.raises(TypeError, match="expected ids"):
            table[ids]


def test_embedding_is_nn_embedding(stored: tuple[embmap.Table, torch.Tensor]) -> None:
    table, weight = stored
    theirs = torch.nn.Embedding.from_pretrained(weight, padding_idx=3)
    ours = Embedding(table.path, padding_idx=3)
    assert (ours.num_embeddings, ours.embedding_dim, ours.padding_idx) == (300, 17, 3)
    ids = torch.randint(0, 300, (4, 9))
    assert torch.equal(ours(ids), theirs(ids))
    assert ours(ids).dtype == weight.dtype
    for wrong in [torch.tensor([300]), torch.tensor([-1])]:
        with pytest.raises(IndexError):
            theirs(wrong)
        with pytest.raises(IndexError):
            ours(wrong)
    assert not list(ours.parameters()) and not list(ours.buffers()) and not ours.state_dict()
    assert torch.equal(ours.to_nn()(ids), theirs(ids))
    assert "300, 17, padding_idx=3" in repr(ours)
    assert Embedding(table, padding_idx=-1).padding_idx == 299
    with pytest.raises(ValueError):
        Embedding(table, padding_idx=300)
    assert Embedding(table, dtype=torch.float32)(ids).dtype == torch.float32


def test_modules_are_copied_and_pickled_by_path(stored: tuple[embmap.Table, torch.Tensor]) -> None:
    table, weight = stored
    module = torch.nn.Sequential(Embedding(table), torch.nn.Identity())
    ids = torch.arange(10)
    for again in [copy.deepcopy(module), pickle.loads(pickle.dumps(module))]:
        assert torch.equal(again(ids), weight[:10])
    assert len(pickle.dumps(Embedding(table))) < 3000


def test_embeddings_come_as_asked(stored: tuple[embmap.Table, torch.Tensor]) -> None:
    table, weight = stored
    ids = torch.arange(20)
    for dtype in [torch.float32, torch.float16, torch.bfloat16, torch.float64]:
        module = Embedding(table, dtype=dtype)
        assert module(ids).dtype == module.to_nn()(ids).dtype == dtype
        assert torch.equal(module(ids), module.to_nn()(ids))
        assert EmbeddingBag(table, dtype=dtype)(ids[None]).dtype == dtype


def test_a_module_has_no_weight_and_says_so(stored: tuple[embmap.Table, torch.Tensor]) -> None:
    module = Embedding(stored[0])
    with pytest.raises(AttributeError, match="to_nn"):
        module.weight
    with pytest.raises(AttributeError, match="wieght"):
        module.wieght
    with pytest.raises(RuntimeError, match="weight"):
        module.load_state_dict({"weight": stored[1]})
    with pytest.raises(TypeError, match="access"):
        Embedding(stored[0], access="read")


def test_modules_in_a_compiled_model(stored: tuple[embmap.Table, torch.Tensor]) -> None:
    table, weight = stored
    model = torch.nn.Sequential(Embedding(table, dtype=torch.float32), torch.nn.Linear(17, 3))
    compiled = torch.compile(model, backend="eager")
    assert torch.allclose(compiled(torch.arange(4)), model[1](weight[:4].float()))


def test_gradients_go_to_the_weights_of_bags(tmp_path: Path) -> None:
    weight = torch.randn(50, 12)
    ours = EmbeddingBag(embmap.from_numpy(weight, tmp_path / "t.emb"), mode="sum", padding_idx=3)
    theirs = ours.to_nn()
    ids, offsets = torch.tensor([1, 3, 2, 5, 7, 3, 1]), torch.tensor([0, 2, 2, 5])
    grads = []
    for module in [ours, theirs]:
        weights = torch.linspace(0.5, 2, 7, requires_grad=True)
        (module(ids, offsets, weights) * torch.arange(12)).sum().backward()
        grads.append(weights.grad)
    torch.testing.assert_close(grads[0], grads[1])
    assert grads[0][1] == 0, "padding has no part in it"


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("last", [False, True])
def test_embedding_bag_is_nn_embedding_bag(tmp_path: Path, mode: str, padding: int | None, last: bool) -> None:
    weight = torch.randn(50, 12)
    table = embmap.from_numpy(weight, tmp_path / "t.emb")
    theirs = torch.nn.EmbeddingBag.from_pretrained(
        weight, mode=mode, padding_idx=padding, include_last_offset=last
    )
    ours = EmbeddingBag(table, mode=mode, padding_idx=padding, include_last_offset=last)
    ids, offsets = torch.randint(0, 50, (40,)), torch.tensor([0, 3, 3, 17, 40])
    if not last:
        offsets = offsets[:-1]
    torch.testing.assert_close(ours(ids, offsets), theirs(ids, offsets))
    torch.testing.assert_close(ours(ids.reshape(8, 5)), theirs(ids.reshape(8, 5)))
    torch.testing.assert_close(ours.to_nn()(ids, offsets), theirs(ids, offsets))
    if mode == "sum":
        weights = torch.randn(40)
        torch.testing.assert_close(ours(ids, offsets, weights), theirs(ids, offsets, weights))
    else:
        with pytest.raises(ValueError, match="per_sample_weights"):
            ours(ids, offsets, torch.ones(40))
    with pytest.raises(ValueError, match="offsets"):
        ours(ids)
    with pytest.raises(ValueError, match="mode"):
        EmbeddingBag(table, mode="median")


class Rows(torch.utils.data.Dataset):
    def __init__(self, table: embmap.Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return 64

    def __getitems__(self, ids: list[int]) -> list[torch.Tensor]:
        return list(self.table.gather(torch.tensor(ids), threads=2))

    def __getitem__(self, id: int) -> torch.Tensor:
        return self.table[torch.tensor(id)]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_data_loaders(tmp_path: Path, method: str) -> None:
    weight = torch.arange(64).float()[:, None].expand(64, 20_000).contiguous()
    table = embmap.from_numpy(weight, tmp_path / "t.emb")
    table.gather(torch.arange(64), threads=2)
    loader = torch.utils.data.DataLoader(
        Rows(table), batch_size=16, num_workers=2, multiprocessing_context=method, timeout=120
    )
    assert torch.equal(torch.cat(list(loader)), weight)


def test_numpy_and_torch_share_outputs(tmp_path: Path) -> None:
    table = embmap.from_numpy(np.ones((2000, 512), np.float32), tmp_path / "t.emb")
    rows = table[torch.arange(2000)]
    address = rows.data_ptr()
    part = rows[5]
    del rows
    assert table[torch.arange(2000)].data_ptr() != address
    assert part.sum() == 512
    del part
    assert table[torch.arange(2000)].data_ptr() == address


def test_a_million_calls_with_tensors_leak_nothing(tmp_path: Path) -> None:
    table = embmap.from_numpy(torch.randn(1000, 24), tmp_path / "t.emb")
    ids, out = torch.tensor([3, 5]), torch.zeros(2, 24)

    def calls(count: int) -> None:
        for _ in range(count):
            table[ids]
            table.gather(ids, out=out)
            table.bag(ids[None])
            table.__dlpack__(max_version=(1, 0))
            try:
                table.gather(out, out=out)
            except TypeError:
                pass

    calls(20_000)
    gc.collect()
    before, objects = resident(), len(gc.get_objects())
    calls(200_000)
    gc.collect()
    assert resident() - before < 1 << 20
    assert len(gc.get_objects()) - objects < 100


class OnADevice(torch.Tensor):
    """A tensor that says it is on a GPU, for what can be seen of that without one."""

    @property
    def is_cuda(self) -> bool:
        return True

    def cpu(self) -> torch.Tensor:
        return self.as_subclass(torch.Tensor)


def test_rows_for_a_device_go_through_pinned_memory(
    stored: tuple[embmap.Table, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, weight = stored
    asked: list[object] = []
    empty = torch.empty

    def pinned(*shape: object, pin_memory: bool = False, **options: object) -> torch.Tensor:
        asked.append(pin_memory)
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", pinned)
    ids = torch.tensor([[3, 4, 5]])
    found = Embedding(table)(ids.as_subclass(OnADevice))
    assert asked == [True]
    assert torch.equal(found, weight[ids])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda(tmp_path: Path) -> None:
    weight = torch.randn(3000, 256)
    module = Embedding(embmap.from_numpy(weight, tmp_path / "t.emb"))
    for rows in [5, 4000, 17, 900] * 5:
        ids = torch.randint(0, 3000, (rows,), device="cuda")
        found = module(ids)
        assert found.device.type == "cuda"
        assert torch.equal(found.cpu(), weight[ids.cpu()])
    out = torch.empty(100, 256, pin_memory=True)
    module.table.gather(torch.arange(100), out=out)
    assert torch.equal(out, weight[:100])
