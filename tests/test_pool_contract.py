"""The pool of this machine and that of a cluster keep the same contract."""

from collections.abc import Iterator

import pytest
from loopback_nodes import LoopbackNodes, cluster

from selftaught.pool import AheadPool
from selftaught.pools.local import LocalPool
from selftaught.testing import PoolContract


class TestLocalPool(PoolContract):
    @pytest.fixture(scope="class")
    @classmethod
    def contract_pool(cls) -> Iterator[AheadPool]:
        pool = LocalPool(2)
        yield pool
        pool.close()


class TestOneNode(PoolContract):
    @pytest.fixture(scope="class")
    @classmethod
    def contract_pool(cls) -> Iterator[AheadPool]:
        with cluster(LoopbackNodes(1)) as pool:
            yield pool


class TestTwoNodes(PoolContract):
    @pytest.fixture(scope="class")
    @classmethod
    def contract_pool(cls) -> Iterator[AheadPool]:
        with cluster(LoopbackNodes(2, slots=2)) as pool:
            yield pool
