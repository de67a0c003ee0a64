import torch

from timemachine.kernels import buffers

LARGE = (64, 1024)  # of float32: a quarter of a megabyte


def test_memory_comes_again_once_it_is_free_and_not_before() -> None:
    like = torch.empty(0)
    first = buffers.empty(LARGE, like)
    where = first.data_ptr()
    assert buffers.empty(LARGE, like).data_ptr() != where
    view = first[3:]
    del first
    assert buffers.empty(LARGE, like).data_ptr() != where  # the view still uses it
    del view
    assert buffers.empty(LARGE, like).data_ptr() == where


def test_shape_dtype_and_alignment() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        tensor = buffers.empty((65, 1025), torch.empty(0, dtype=dtype))
        assert tensor.shape == (65, 1025)
        assert tensor.dtype == dtype
        assert tensor.is_contiguous()
        assert tensor.data_ptr() % buffers.ALIGNMENT == 0


def test_small_tensors_are_torchs_own() -> None:
    assert buffers.empty((2, 3), torch.empty(0)).shape == (2, 3)
