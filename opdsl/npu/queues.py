"""Queues of buffers between pipes, as Ascend C's TQue: flags and addresses are written by the queue.

q = k.queue("UB", 4096, "f32", depth=2, producer="MTE2", consumer="V")
place = q.alloc()                 # waits until the consumer has freed this buffer
k.data_copy(place, ...)
q.enqueue()                       # the producer has filled it
ready = q.dequeue()               # the consumer waits for that
k.adds(..., ready, ...)
q.free()                          # the consumer is done with it
...
q.close()                         # after the loop: takes the flags that are still set
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opdsl.npu.addresses import Local
from opdsl.npu.statements import BufferName, Pipe

if TYPE_CHECKING:
    from opdsl.npu.builder import Builder


class Queue:
    """`depth` buffers that go round: one producing and one consuming pipe. Takes `depth` flag ids of both directions,
    from `first_id` up."""

    def __init__(
        self,
        builder: Builder,
        buffer: BufferName,
        bytes: int,
        dtype: str,
        depth: int,
        producer: Pipe,
        consumer: Pipe,
        first_id: int,
        name: str,
    ) -> None:
        self.builder = builder
        self.bytes = bytes
        self.depth = depth
        self.filled, self.freed = f"{producer}_{consumer}", f"{consumer}_{producer}"
        self.first_id = first_id
        self.place = builder.allocate(buffer, depth * bytes, dtype, name)
        self._in = builder.variable(0, f"{name or 'queue'}_in")
        self._out = builder.variable(0, f"{name or 'queue'}_out")
        for slot in range(depth):
            builder.set_flag(self.freed, first_id + slot)

    def alloc(self) -> Local:
        """The next buffer to fill; the producer waits until it is free."""
        self.builder.wait_flag(self.freed, self._in + self.first_id)
        return self.place.at_byte(self._in * self.bytes)

    def enqueue(self) -> None:
        """What the producer has done so far fills the buffer."""
        k = self.builder
        k.set_flag(self.filled, self._in + self.first_id)
        k.assign(self._in, (self._in + 1) % self.depth)

    def dequeue(self) -> Local:
        """The oldest filled buffer; the consumer waits for it."""
        self.builder.wait_flag(self.filled, self._out + self.first_id)
        return self.place.at_byte(self._out * self.bytes)

    def free(self) -> None:
        """The consumer needs the buffer no more."""
        k = self.builder
        k.set_flag(self.freed, self._out + self.first_id)
        k.assign(self._out, (self._out + 1) % self.depth)

    def close(self) -> None:
        """Takes the flags of the free buffers, so that the next kernel finds none set."""
        for slot in range(self.depth):
            self.builder.wait_flag(self.freed, self.first_id + slot)
