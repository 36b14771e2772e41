"""Several processes that train one network: on the devices of one machine, or on several machines.

Every batch is cut into one part per process. The features of all parts are gathered before the loss
is formed, so that triplets, class-weighted means and everything else are those of the whole batch:
the loss and its gradient are the ones that a single process would see. lightning-fabric starts the
processes and carries their messages; see `docs/decisions/016-scale.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cellkin.core.errors import RecipeError, TrainingError
from cellkin.learning.networks import Network


class Processes:
    """The processes that train together; by default this one alone.

    Args:
        device: of this process.
        fabric: a launched `lightning_fabric.Fabric`, None for a single process.

    Attributes:
        rank: of this process; the one of rank 0 writes and tells. count: how many there are.
    """

    def __init__(self, device: torch.device, fabric: Any = None) -> None:
        self.device, self._fabric = device, fabric
        self.rank = int(fabric.global_rank) if fabric else 0
        self.count = int(fabric.world_size) if fabric else 1

    @classmethod
    def launch(cls, device: torch.device, *, devices: int = 1, nodes: int = 1) -> Processes:
        """Start `devices` processes on each of `nodes` machines; this one becomes one of them.

        Companions on this machine run the same command again and join here. On several machines
        the command is started once on each, with MASTER_ADDR, MASTER_PORT and NODE_RANK in the
        environment, or by torchrun or srun, which start all processes themselves.

        Args:
            device: "cpu" or "cuda"; every process takes one of that kind.

        Raises:
            RecipeError: fewer than one, or more GPUs than there are.
        """
        if devices < 1 or nodes < 1:
            raise RecipeError(
                f"devices = {devices} on nodes = {nodes} is not possible",
                where="--devices, --nodes",
                mend="give 1 or more of each",
            )
        if devices * nodes == 1:
            return cls(device)
        if device.type == "cuda" and devices > torch.cuda.device_count():
            raise RecipeError(
                f"{devices} GPUs were asked for, this machine has {torch.cuda.device_count()}",
                where="--devices",
                mend="ask for fewer, or add --device cpu",
            )
        from lightning_fabric import Fabric

        fabric = Fabric(accelerator=device.type, devices=devices, num_nodes=nodes, strategy="ddp")
        fabric.launch()
        return cls(fabric.device, fabric)

    @property
    def first(self) -> bool:
        """Whether this process writes and tells."""
        return self.rank == 0

    def part(self, n: int) -> slice:
        """Which of the n cells of a batch this process looks at; parts differ by one at most."""
        return slice(self.rank * n // self.count, (self.rank + 1) * n // self.count)

    def gather(self, own: Tensor, n: int) -> Tensor:
        """The features (n, C) of a whole batch, from the part (own, C) of every process.

        Gradients flow into the own part alone, times the number of processes: every process forms
        the same loss, so that `average` then makes the gradient of the whole batch.
        """
        if self._fabric is None:
            return own
        longest = -(-n // self.count)
        padded = own.detach().new_zeros((longest, *own.shape[1:]))
        padded[: len(own)] = own.detach()
        everyone = [torch.empty_like(padded) for _ in range(self.count)]
        torch.distributed.all_gather(everyone, padded)
        sizes = [(r + 1) * n // self.count - r * n // self.count for r in range(self.count)]
        parts = [rows[:size] for rows, size in zip(everyone, sizes, strict=True)]
        if own.requires_grad:
            own.register_hook(lambda gradient: gradient * self.count)  # type: ignore[no-untyped-call]
        parts[self.rank] = own
        return torch.cat(parts)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes, in one message."""
        if self._fabric is None:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        mean = self._fabric.all_reduce(flat, reduce_op="mean")
        for gradient, part in zip(
            gradients, mean.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))

    def agree(self, value: Any) -> Any:
        """What the first process has, in all of them."""
        return value if self._fabric is None else self._fabric.broadcast(value)

    def stop(self) -> None:
        """End the companions that this process started, where it cannot go on itself."""
        launcher = getattr(getattr(self._fabric, "strategy", None), "launcher", None)
        for companion in getattr(launcher, "procs", ()):
            companion.terminate()


def refuse_unshared(network: nn.Module, device: torch.device, count: int, *, frozen: bool) -> None:
    """Refuse what several processes on CPUs cannot do: share the statistics of batch norms.

    Args:
        count: processes. frozen: whether all batch norms keep their statistics as they came.

    Raises:
        TrainingError: there are batch norms that would learn statistics of their own.
    """
    if count > 1 and device.type != "cuda" and not frozen and (norms := _batch_norms(network)):
        raise TrainingError(
            "on CPUs several processes cannot share the statistics of batch norms: each would "
            "normalise by its own few cells, and learn another network than one process does",
            where=f"{count} processes on {device.type}; {norms} batch norms that learn",
            mend="set frozen_batch_norm = true in the recipe, or train with one process",
        )


def synchronized(network: Network, processes: Processes, *, frozen: bool) -> Network:
    """The network, its batch norms made to see the whole batch of all processes on GPUs."""
    if processes.count == 1 or frozen or not _batch_norms(network):
        return network
    from timm.layers.norm_act import convert_sync_batchnorm

    shared: Network = convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return shared


def _batch_norms(network: nn.Module) -> int:
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
