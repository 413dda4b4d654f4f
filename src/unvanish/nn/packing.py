"""Sequences of different lengths: packed, padded, turned round.

Shapes: T time, B batch, W any width, S sum of lengths.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from unvanish.errors import OptionError
from unvanish.torch_internals import has_numbers


def unpack(packed: PackedSequence) -> tuple[Tensor, Tensor]:
    """Return the padded sequence (T, B, W), in the order of the rows before packing, and its lengths."""
    x_TBW, lengths_B = pad_packed_sequence(packed)
    return x_TBW, lengths_B.to(x_TBW.device)


def pack_like(output_TBW: Tensor, packed: PackedSequence) -> PackedSequence:
    """Pack an output as its input was packed: the same order, the same batch sizes."""
    if packed.sorted_indices is not None:
        output_TBW = output_TBW.index_select(1, packed.sorted_indices)
    sizes_T1 = packed.batch_sizes[:, None].to(output_TBW.device)
    here_TB = torch.arange(output_TBW.shape[1], device=output_TBW.device) < sizes_T1
    data_SW = output_TBW[: len(packed.batch_sizes)][here_TB]
    return PackedSequence(data_SW, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)


def turn_round(x_TBW: Tensor, lengths_B: Tensor | None) -> Tensor:
    """Reverse each row in time, within its length; what lies past the length stays where it is."""
    if lengths_B is None:
        return x_TBW.flip(0)
    steps_T1 = torch.arange(x_TBW.shape[0], device=x_TBW.device)[:, None]
    index_TB = torch.where(steps_T1 < lengths_B, lengths_B - 1 - steps_T1, steps_T1)
    return x_TBW.gather(0, index_TB[:, :, None].expand_as(x_TBW))


def turn_borders(reset_TB1: Tensor, lengths_B: Tensor | None) -> Tensor:
    """Say where rows that are turned round start anew, so that they are cut at the same borders.

    The border between steps t - 1 and t lies before step t on the way forth, and before step t - 1 on the way back.
    What starts anew past the end of a row must have been left out.
    """
    steps = reset_TB1.shape[0]
    next_T = torch.arange(1, steps + 1, device=reset_TB1.device)  # one less than T steps would bind a graph's T
    there_T = next_T < steps
    return turn_round(reset_TB1[torch.where(there_T, next_T, 0)] & there_T[:, None, None], lengths_B)


def blank_padding(x_TBW: Tensor, lengths_B: Tensor) -> Tensor:
    """Put zeros past each row's end: NaN there would reach the weights' gradients, as 0 · NaN."""
    steps_T1 = torch.arange(x_TBW.shape[0], device=x_TBW.device)[:, None]
    here_TB1 = (steps_T1 < lengths_B)[:, :, None]
    if x_TBW.dtype == torch.bool:  # onnxruntime has no Where of these
        return x_TBW & here_TB1
    return torch.where(here_TB1, x_TBW, x_TBW.new_zeros(()))


def check_lengths(lengths: object, steps: int, batch: int, device: torch.device) -> Tensor:
    """Return lengths as int64 on the device, refusing what does not fit the sequence."""
    try:
        lengths_B = torch.as_tensor(lengths, device=device)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise OptionError(f"lengths={lengths!r} are not lengths: {fault}; give one whole number per row") from fault
    if lengths_B.dtype.is_floating_point or lengths_B.dtype is torch.bool or lengths_B.shape != (batch,):
        raise OptionError(
            f"lengths has shape {tuple(lengths_B.shape)} and type {lengths_B.dtype}: give one whole number for "
            f"each of the {batch} rows"
        )
    if has_numbers(lengths_B) and batch and (int(lengths_B.min()) < 0 or int(lengths_B.max()) > steps):
        raise OptionError(f"a length lies outside 0 to {steps}, the steps of the input")
    return lengths_B.long()


def check_reset(reset: object, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return where rows start anew on the device, refusing what does not fit the sequence."""
    try:
        mask = torch.as_tensor(reset, device=device)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise OptionError(f"reset={reset!r} is not a mask: {fault}; give True or False for each step") from fault
    if mask.dtype is not torch.bool or mask.shape != shape:
        raise OptionError(
            f"reset has shape {tuple(mask.shape)} and type {mask.dtype}: give True or False for each step, {shape}"
        )
    return mask
