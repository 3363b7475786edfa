"""The builder's methods for the cube: L1 to L0, multiply, and L0C out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opdsl.npu.addresses import Local, Place
from opdsl.npu.scalars import Scalar, ScalarLike


class CubeInstructions:
    if TYPE_CHECKING:

        def issue(self, name: str, on_pipe: Any = None, **operands: Any) -> Scalar | None: ...

    def load_data(
        self,
        dst: Local,
        src: Place,
        *,
        repeat_times: ScalarLike,
        start_index: ScalarLike = 0,
        src_stride: ScalarLike = 1,
        dst_gap: ScalarLike = 0,
        transpose: bool = False,
    ) -> None:
        """LoadData with LoadData2DParams: `repeat_times` (1 to 255) fractals of 512 bytes, from fractal `start_index`
        of src, `src_stride` fractals from one to the next, with `dst_gap` fractals left out between them in dst.
        `transpose` swaps rows and columns within a fractal (16-bit elements)."""
        self.issue(
            "load_data",
            dst=dst,
            src=src,
            start_index=start_index,
            repeat_times=repeat_times,
            src_stride=src_stride,
            dst_gap=dst_gap,
            transpose=int(transpose),
        )

    def load_data_transpose(
        self,
        dst: Local,
        src: Local,
        *,
        repeat_times: ScalarLike,
        start_index: ScalarLike = 0,
        src_stride: ScalarLike = 1,
        dst_gap: ScalarLike = 0,
        dst_frac_gap: ScalarLike = 0,
    ) -> None:
        """LoadDataWithTranspose: squares of 16 x 16 (b16, b32) or 32 x 32 (b8) elements, transposed. A square is one
        fractal (b16) or two that follow each other in src; in dst its fractals lie `dst_frac_gap` + 1 fractals apart,
        and squares `dst_gap` + 1 fractals. `start_index` and `src_stride` count squares."""
        self.issue(
            "load_data_transpose",
            dst=dst,
            src=src,
            start_index=start_index,
            repeat_times=repeat_times,
            src_stride=src_stride,
            dst_gap=dst_gap,
            dst_frac_gap=dst_frac_gap,
        )

    def load_data_3d(
        self,
        dst: Local,
        src: Local,
        *,
        l1_h: ScalarLike,
        l1_w: ScalarLike,
        channel_size: ScalarLike,
        k_extension: ScalarLike,
        m_extension: ScalarLike,
        k_start_pt: ScalarLike = 0,
        m_start_pt: ScalarLike = 0,
        stride_w: ScalarLike = 1,
        stride_h: ScalarLike = 1,
        filter_w: ScalarLike = 1,
        filter_h: ScalarLike = 1,
        dilation_filter_w: ScalarLike = 1,
        dilation_filter_h: ScalarLike = 1,
        pads: tuple[ScalarLike, ScalarLike, ScalarLike, ScalarLike] = (0, 0, 0, 0),
        pad_value: ScalarLike = 0,
        en_transpose: bool = False,
    ) -> None:
        """LoadData with LoadData3DParamsV2 (img2col). The image in L1 is (C1, l1_h, l1_w, C0); its matrix has a row
        for each output place (ho, wo) and a column for each (c1, kh, kw, c0). Rows m_start_pt .. + m_extension and
        columns k_start_pt .. + k_extension (multiples of 16 rows, of C0 columns) go to dst: as ZZ in L0A, as ZN in
        L0B (where the matrix is taken as (k, n): its rows are k). A plain (M, K) matrix in NZ is an image with l1_h
        1, l1_w M, channel_size K: one instruction fills L0A. `pads`: left, right, top, bottom. `en_transpose` (b16):
        the matrix transposed."""
        left, right, top, bottom = pads
        self.issue(
            "load_data_3d",
            dst=dst,
            src=src,
            l1_h=l1_h,
            l1_w=l1_w,
            channel_size=channel_size,
            k_extension=k_extension,
            m_extension=m_extension,
            k_start_pt=k_start_pt,
            m_start_pt=m_start_pt,
            stride_w=stride_w,
            stride_h=stride_h,
            filter_w=filter_w,
            filter_h=filter_h,
            dilation_filter_w=dilation_filter_w,
            dilation_filter_h=dilation_filter_h,
            pad_left=left,
            pad_right=right,
            pad_top=top,
            pad_bottom=bottom,
            pad_value=pad_value,
            en_transpose=int(en_transpose),
        )

    def mmad(
        self,
        dst: Local,
        a: Local,
        b: Local,
        *,
        m: ScalarLike,
        n: ScalarLike,
        k: ScalarLike,
        init: ScalarLike = 0,
        bias: Local | None = None,
        unit_flag: int = 0,
        hf32: bool = False,
    ) -> None:
        """Mmad: dst += a @ b, or = where `init` is 1 (from `bias` in BT, if given). a is m x k in ZZ fractals, b is k
        x n in ZN, dst is m x n in NZ, rounded up to fractals. f16 and bf16 give f32 (f16 also f16 on coupled chips),
        f32 gives f32 (`hf32`: its factors rounded to 11 bits first), i8 and u8 give i32."""
        self.issue(
            "mmad",
            dst=dst,
            a=a,
            b=b,
            bias=0 if bias is None else bias,
            m=m,
            n=n,
            k=k,
            init=init,
            unit_flag=unit_flag,
            hf32=int(hf32),
        )

    def fixpipe(
        self,
        dst: Place,
        src: Local,
        *,
        n_size: ScalarLike,
        m_size: ScalarLike,
        src_stride: ScalarLike,
        dst_stride: ScalarLike,
        quant_mode: str = "none",
        quant_scale: ScalarLike = 1.0,
        relu: bool = False,
        nz2nd: bool = True,
        nd_num: ScalarLike = 1,
        src_nd_stride: ScalarLike = 0,
        dst_nd_stride: ScalarLike = 0,
        unit_flag: int = 0,
    ) -> None:
        """Fixpipe: m_size x n_size of L0C (its fractal columns `src_stride` rows high) to GM or L1, cast on the way.
        With `nz2nd` as rows `dst_stride` elements apart; without as NZ with fractal columns `dst_stride` 32-byte
        blocks apart."""
        self.issue(
            "fixpipe",
            dst=dst,
            src=src,
            n_size=n_size,
            m_size=m_size,
            src_stride=src_stride,
            dst_stride=dst_stride,
            quant_mode=quant_mode,
            quant_scale=quant_scale,
            relu=int(relu),
            nz2nd=int(nz2nd),
            nd_num=nd_num,
            src_nd_stride=src_nd_stride,
            dst_nd_stride=dst_nd_stride,
            unit_flag=unit_flag,
        )

    def data_copy_l0c(
        self,
        dst: Local,
        src: Local,
        *,
        block_len: ScalarLike,
        block_count: ScalarLike = 1,
        src_stride: ScalarLike = 0,
        dst_stride: ScalarLike = 0,
        relu: bool = False,
    ) -> None:
        """DataCopy from CO1 to CO2 on coupled chips: bursts of `block_len` 16 x 16 fractals, cast to dst's dtype;
        src_stride in fractals, dst_stride in 32-byte blocks."""
        self.issue(
            "data_copy_l0c",
            dst=dst,
            src=src,
            block_len=block_len,
            block_count=block_count,
            src_stride=src_stride,
            dst_stride=dst_stride,
            relu=int(relu),
        )
