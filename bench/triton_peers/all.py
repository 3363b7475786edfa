"""Every peer by the name of its operator."""

from __future__ import annotations

from .attention import ATTENTION
from .elementwise import ADD, COPY, GELU
from .embedding import EMBEDDING
from .matmul import MATMUL
from .peer import Peer
from .rows import LAYER_NORM, RMS_NORM, SOFTMAX

PEERS: dict[str, Peer] = {
    peer.name: peer for peer in (MATMUL, ATTENTION, SOFTMAX, LAYER_NORM, RMS_NORM, ADD, GELU, COPY, EMBEDDING)
}
