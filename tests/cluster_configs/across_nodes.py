"""A job that uses every way between Ray's nodes: tasks, actors, an object moved from one to another, Ray Data."""

from __future__ import annotations

import numpy as np
import ray
import ray.data


@ray.remote(num_cpus=1)
class Holder:
    """Holds an array on its node and reads one of another."""

    def make(self) -> tuple[ray.ObjectRef, str]:
        return ray.put(np.ones(20_000_000, dtype=np.uint8)), ray.util.get_node_ip_address()

    def read(self, references: list[ray.ObjectRef]) -> tuple[int, str]:
        return int(ray.get(references[0]).sum()), ray.util.get_node_ip_address()


def main() -> None:
    ray.init(address="auto")
    print("nodes:", sum(node["Alive"] for node in ray.nodes()))
    first, second = (Holder.options(scheduling_strategy="SPREAD").remote() for _ in range(2))
    reference, there = ray.get(first.make.remote())
    total, here = ray.get(second.read.remote([reference]))
    print("moved:", total, "to another node" if here != there else "to the same node")
    ray.kill(first)
    ray.kill(second)
    rows = ray.data.from_items(list(range(200)), override_num_blocks=20).map_batches(lambda batch: batch).count()
    print("rows:", rows)


if __name__ == "__main__":
    main()
