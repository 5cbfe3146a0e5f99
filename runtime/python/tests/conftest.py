"""What the tests of the package share: a cache of their own, and programs that are prepared once."""

import os
import tempfile

import pytest

# Before any engine is made: the tests must neither find nor leave programs in the user's cache.
_cache = tempfile.TemporaryDirectory()
os.environ["WINNOW_CACHE_DIR"] = _cache.name

import winnow  # noqa: E402
from small import SMALL  # noqa: E402


@pytest.fixture(scope="session")
def packed():
    return winnow.prepare("infllm_v2", device="cpu", **SMALL)


@pytest.fixture(scope="session")
def paged():
    return winnow.prepare("infllm_v2", device="cpu", paged=True, **SMALL)


@pytest.fixture(scope="session")
def fp8():
    return winnow.prepare("infllm_v2", device="cpu", paged=True, kv_dtype="fp8_e4m3", **SMALL)


@pytest.fixture(scope="session")
def dense():
    return winnow.prepare("dense", device="cpu", heads=4, kv_heads=2, head_dim=64, dtype="fp16")
