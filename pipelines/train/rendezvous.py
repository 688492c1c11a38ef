"""Join the workers of a training to one process group, on loopback if they share a machine.

With Ray's own setup, torch's key store would listen on all addresses of the machine. The store asks
for no token, so anyone who reaches it could write to it.

torch is loaded in the workers alone. Ray's controller, a process of each training, loads this
module too, and would need two seconds more.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psutil  # comes with Ray
import ray
from ray.exceptions import GetTimeoutError
from ray.train.backend import Backend, BackendConfig
from ray.util import get_node_ip_address

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

_LOOPBACK = "127.0.0.1"
_GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"
_LEAVE_SECONDS = 30.0

# The first worker's store, from the time that it listens until the group takes it over.
_listening: list[TCPStore] = []


@dataclass
class Meeting(BackendConfig):
    """The configuration that joins the workers to a process group; a single worker needs none.

    Attributes
    ----------
    backend
        Name of torch's backend: `"gloo"` or `"nccl"`.
    timeout_s
        Seconds after which a step that the workers take together fails.
    """

    backend: str
    timeout_s: int = 1800

    @property
    def backend_cls(self) -> type[Backend]:
        """Return the class that sets up the group."""
        return _Joining

    @property
    def train_func_context(self) -> Any:
        """Return Ray's context of a training with torch, which sets the worker's GPU."""
        from ray.train.torch import TorchConfig

        return TorchConfig().train_func_context


class _Joining(Backend):
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Join the workers once all have started."""
        world = len(worker_group)
        if world == 1:
            return
        addresses = worker_group.execute(get_node_ip_address)
        if len(set(addresses)) == 1:
            addresses = [_LOOPBACK] * world
        port = worker_group.execute_single(0, _listen, addresses[0], world)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank,
                    _join,
                    # Positional, since Ray's method has its own parameter `rank`.
                    backend_config.backend,
                    (addresses[0], port),
                    address,
                    rank,
                    world,
                    timedelta(seconds=backend_config.timeout_s),
                )
                for rank, address in enumerate(addresses)
            ]
        )

    def on_shutdown(self, worker_group: Any, backend_config: Any) -> None:
        """Let the workers leave the group."""
        if len(worker_group) > 1:
            parting = worker_group.execute_async(_part)
            try:
                ray.get(parting, timeout=_LEAVE_SECONDS)
            except GetTimeoutError:
                # Ray ends a worker that hangs right after this.
                return


def _listen(address: str, world: int) -> int:
    """Open the store on `address` alone, and return the port that it listens on."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family)
    listener.bind((address, 0))
    listener.listen()
    port: int = listener.getsockname()[1]
    # It is documented, but not in __all__.
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore(
        address,
        port,
        world,
        is_master=True,
        wait_for_workers=False,
        # Without a socket, torch listens on all addresses. The store closes the socket.
        master_listen_fd=listener.detach(),
    )
    _listening[:] = [store]
    return port


def _join(
    backend: str,
    meeting: tuple[str, int],
    own: str,
    rank: int,
    world: int,
    timeout: timedelta,
) -> None:
    """Join the group as worker `rank`, whose address is `own`."""
    import torch.distributed as dist
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    interface = _interface(own)
    if interface is not None:
        # Without an interface, gloo uses the address that the machine's name resolves to.
        os.environ.setdefault(_GLOO_INTERFACE, interface)
    if rank == 0:
        store = _listening.pop()
    else:
        store = TCPStore(*meeting, world, is_master=False, wait_for_workers=False)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)


def _part() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def _interface(address: str) -> str | None:
    """Find the network interface that has an address, if one has it.

    >>> _interface("127.0.0.1") in ("lo", "lo0")
    True
    """
    for name, held in psutil.net_if_addrs().items():
        if any(each.address.partition("%")[0] == address for each in held):
            return str(name)
    return None
