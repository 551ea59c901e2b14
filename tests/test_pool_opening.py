"""What `--pool` takes, and how it says what it does not."""

import pytest

from selftaught.errors import UsageError
from selftaught.pools.opening import cluster_of


def test_this_machine_is_no_cluster() -> None:
    assert cluster_of("local") is None


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("here", "must be `local`"),
        ("http://head:6379", "must be `local`"),
        ("ray://head:6379/path", "must be `local`"),
        ("ray://head", "lacks the port"),
        ("ray://head:port", "is no URL"),
        ("ray://head:99999", "is no URL"),
        ("ray://[::1:6379", "is no URL"),
        ("ray://me:word@head:6379", "takes no user or password"),
        ("ray://head:6379?nodes=2", "has no option 'nodes'"),
        ("ray://head:6379?start=soon", "start=soon in --pool must be a whole number above 0"),
        ("slurm://batch?nodes=0", "nodes=0 in --pool must be a whole number above 0"),
    ],
)
def test_what_cannot_be_meant_is_said_in_a_sentence(url: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        cluster_of(url)
