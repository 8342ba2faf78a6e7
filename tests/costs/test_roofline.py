"""What compiled programs do: FLOPs, bytes and loops counted from XLA's text."""

import jax
import jax.numpy as jnp
import pytest

from scaling.costs.accelerators import Accelerator
from scaling.costs.hlo import bytes_of, parse, shapes_of
from scaling.costs.roofline import Work, work_of

DEVICE = Accelerator(1e12, 1.0, 1e9, 1e9, "any", "cpu", launch=1e-3)


def work(function: object, *shapes: tuple[int, ...]) -> Work:
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = jax.jit(function).lower(*arguments).compile().as_text()  # type: ignore[arg-type]
    return work_of(text, DEVICE)


def test_a_product_counts_two_flops_a_multiply_add_and_its_three_arrays() -> None:
    product = work(lambda a, b: a @ b, (64, 128), (128, 256))
    assert product.flops == 2 * 64 * 128 * 256
    # XLA may transpose an operand first, which reads and writes it once more.
    arrays = 4 * (64 * 128 + 128 * 256 + 64 * 256)
    assert arrays <= product.bytes <= 3 * arrays


def test_a_loop_counts_as_often_as_it_runs() -> None:
    def repeated(x: jax.Array, weights: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    once, often = (work(repeated, (32, 64), (count, 64, 64)) for count in (2, 10))
    assert once.flops == 2 * 2 * 32 * 64 * 64
    assert often.flops == 5 * once.flops
    # Of the stack of weights a turn reads its own.
    turn = 4 * (64 * 64 + 2 * 32 * 64)
    assert (often.bytes - once.bytes) / 8 <= 4 * turn


def test_a_convolution_counts_its_taps() -> None:
    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1, 1), "VALID", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
        )

    convolution = work(convolve, (1, 10, 10, 10, 4), (3, 3, 3, 4, 8))
    assert convolution.flops == 2 * 8**3 * 8 * 27 * 4


LIBRARIES = """HloModule libraries

ENTRY %main (q: bf16[2,64,4,16]) -> bf16[2,64,4,16] {
  %q = bf16[2,64,4,16]{3,2,1,0} parameter(0)
  %flash = (bf16[2,4,64,16]{3,1,2,0}, f32[2,4,64]{2,1,0}, u8[0]{0}) custom-call(%q, %q, %q), \
custom_call_target="__cudnn$fmhaSoftmax", backend_config={"cudnn_fmha_backend_config": \
{"intermediate_tensor_shape": {"element_type": "BF16", "dimensions": ["2", "4", "64", "64"]}, \
"bmm1_dot_dimension_numbers": {"lhs_contracting_dimensions": ["3"]}}}
  %out = bf16[2,4,64,16]{3,1,2,0} get-tuple-element(%flash), index=0
  %x = f32[128,32]{1,0} constant({...})
  %w = f32[32,16]{1,0} constant({...})
  %gemm = (f32[128,16]{1,0}, s8[1024]{0}) custom-call(%x, %w), \
custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":\
{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  ROOT %result = bf16[2,64,4,16]{3,2,1,0} bitcast(%out)
}
"""


def test_calls_of_gpu_libraries_count_their_products() -> None:
    counted = work_of(LIBRARIES, DEVICE)
    flash = 2 * 2 * (2 * 4 * 64 * 64) * 16
    gemm = 2 * 128 * 32 * 16
    assert counted.kernels == 2
    assert counted.flops == flash + gemm
    assert counted.launched_seconds == 2e-3


def test_a_kernel_takes_the_longer_of_memory_and_arithmetic() -> None:
    elementwise = work(lambda x: x + 1.0, (1000,))
    assert elementwise.seconds == pytest.approx(8000 / DEVICE.bandwidth, rel=0.01)
    product = work(lambda a, b: a @ b, (2, 2), (2, 2))
    assert product.launched_seconds == product.kernels * DEVICE.launch


def test_arrays_of_narrow_types_take_parts_of_bytes() -> None:
    assert bytes_of("(bf16[3,5]{1,0:T(8,128)(2,1)}, s4[8]{0}, pred[])") == 30 + 4 + 1
    assert bytes_of("f8e4m3fn[10]{0}") == 10
    assert shapes_of("f32[2,3]{1,0}") == [(2, 3)]


def test_a_text_that_is_no_program_is_refused() -> None:
    with pytest.raises(ValueError, match="no entry computation"):
        parse("nothing")
