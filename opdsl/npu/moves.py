"""The builder's methods that move data. Gaps and lengths have Ascend C's units; see each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opdsl.npu.addresses import Local, Place
from opdsl.npu.scalars import Scalar, ScalarLike


class MoveInstructions:
    if TYPE_CHECKING:

        def issue(self, name: str, on_pipe: Any = None, **operands: Any) -> Scalar | None: ...

    def data_copy(
        self,
        dst: Place,
        src: Place,
        *,
        block_len: ScalarLike,
        block_count: ScalarLike = 1,
        src_stride: ScalarLike = 0,
        dst_stride: ScalarLike = 0,
    ) -> None:
        """DataCopy with DataCopyParams: `block_count` (to 4095) bursts of `block_len` 32-byte blocks (to 65535); the
        strides are the gaps from the end of a burst to the start of the next, in 32-byte blocks (to 65535)."""
        self.issue(
            "data_copy",
            dst=dst,
            src=src,
            block_count=block_count,
            block_len=block_len,
            src_stride=src_stride,
            dst_stride=dst_stride,
        )

    def data_copy_pad(
        self,
        dst: Place,
        src: Place,
        *,
        block_len: ScalarLike,
        block_count: ScalarLike = 1,
        src_stride: ScalarLike = 0,
        dst_stride: ScalarLike = 0,
        left_padding: ScalarLike = 0,
        right_padding: ScalarLike = 0,
        padding_value: ScalarLike = 0,
    ) -> None:
        """DataCopyPad with DataCopyExtParams: bursts of `block_len` bytes. A burst takes whole 32-byte blocks of UB:
        from GM, `left_padding` and `right_padding` elements of `padding_value` stand beside it (less than 32 bytes
        each), and what is left of the last block holds no value. The gap at the GM side is in bytes, at the UB side
        in blocks."""
        self.issue(
            "data_copy_pad",
            dst=dst,
            src=src,
            block_count=block_count,
            block_len=block_len,
            src_stride=src_stride,
            dst_stride=dst_stride,
            left_padding=left_padding,
            right_padding=right_padding,
            padding_value=padding_value,
        )

    def data_copy_nd2nz(
        self,
        dst: Local,
        src: Place,
        *,
        n_value: ScalarLike,
        d_value: ScalarLike,
        src_d_value: ScalarLike,
        dst_nz_c0_stride: ScalarLike,
        nd_num: ScalarLike = 1,
        src_nd_matrix_stride: ScalarLike = 0,
        dst_nz_n_stride: ScalarLike = 1,
        dst_nz_matrix_stride: ScalarLike = 0,
    ) -> None:
        """DataCopy with Nd2NzParams: `n_value` rows (to 16384) of `d_value` elements (to 65535), `src_d_value`
        elements apart (to 65535), as fractal columns of 32 bytes: element (n, d) goes to block (d / c0) *
        dst_nz_c0_stride + n * dst_nz_n_stride. The columns of the last block beyond d_value become 0; rows beyond
        n_value are not written."""
        self.issue(
            "data_copy_nd2nz",
            dst=dst,
            src=src,
            nd_num=nd_num,
            n_value=n_value,
            d_value=d_value,
            src_nd_matrix_stride=src_nd_matrix_stride,
            src_d_value=src_d_value,
            dst_nz_c0_stride=dst_nz_c0_stride,
            dst_nz_n_stride=dst_nz_n_stride,
            dst_nz_matrix_stride=dst_nz_matrix_stride,
        )

    def init_const_value(
        self,
        dst: Local,
        *,
        block_num: ScalarLike,
        repeat_times: ScalarLike = 1,
        dst_gap: ScalarLike = 0,
        value: ScalarLike = 0,
    ) -> None:
        """InitConstValue: runs of `block_num` blocks (32 bytes in L1, 512 in L0A and L0B) of one value."""
        self.issue(
            "init_const_value", dst=dst, block_num=block_num, repeat_times=repeat_times, dst_gap=dst_gap, value=value
        )

    def load_scalar(self, src: Place) -> Scalar:
        """GetValue: an element into a register, as an integer or a float by the place's dtype."""
        result = self.issue("load_scalar", src=src)
        assert result is not None
        return result

    def store_scalar(self, dst: Place, value: ScalarLike) -> None:
        """SetValue: a register into an element, converted to the place's dtype (floats rounded, integers wrapped)."""
        self.issue("store_scalar", dst=dst, value=value)

    def data_cache_clean_and_invalid(self, dst: Place, bytes: ScalarLike = 0) -> None:
        """DataCacheCleanAndInvalid: what the scalar unit wrote to GM becomes visible to others; 0 bytes: all of it."""
        self.issue("data_cache_clean_and_invalid", dst=dst, bytes=bytes)
