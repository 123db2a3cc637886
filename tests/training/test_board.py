"""The board lives and dies with the driver, not with some other node."""

import subprocess
import sys

import pytest

ON_TWO_NODES = """
import ray
from ray.cluster_utils import Cluster
from pipelines.training.board import make_board, read

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)
cluster.wait_for_nodes()
here, boards = ray.get_runtime_context().get_node_id(), [make_board() for _ in range(6)]
for board in boards:
    read(board)
where = [board.__ray_call__.remote(lambda self: ray.get_runtime_context().get_node_id()) for board in boards]
print(len(ray.nodes()), sum(node == here for node in ray.get(where)))
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.slow
def test_every_board_is_on_the_drivers_node() -> None:
    done = subprocess.run([sys.executable, "-c", ON_TWO_NODES], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["2 6"], done.stdout + done.stderr[-3000:]
