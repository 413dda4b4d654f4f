"""What a layer holds, and how it is made: one cell for each layer of the stack and direction, with its parameters.

Shapes: B batch, H hidden, W width of the output (projected or hidden), L layers, R directions, D how many steps
back a state is read.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from unvanish import engine as engines
from unvanish.cells import find
from unvanish.checks import flag, whole_number
from unvanish.equations import Cell
from unvanish.equations.rewrites.normalise import gain, shift, with_normalisation, with_skips
from unvanish.equations.rewrites.parameters import PROJECTION
from unvanish.equations.system import Rowwise, System
from unvanish.equations.widths import INPUT
from unvanish.errors import OptionError
from unvanish.nn.batchnorm import StepNorm
from unvanish.nn.connect import Connection, check_connection, reset_gates
from unvanish.nn.constrain import Constraints, resolve_constraints
from unvanish.nn.constrain import constrain as constrain_array
from unvanish.nn.initialise import Init, Initialiser, fill
from unvanish.nn.masks import Zoneout, make_noise
from unvanish.nn.options import (
    CellOptions,
    check_dropout,
    check_names,
    check_projection,
    check_skips,
    check_steps,
    fixed_number,
    sort_options,
)
from unvanish.nn.part import Part, Place
from unvanish.nn.torchlayer import TorchLayer

BATCH_GAIN = 0.1  # Cooijmans et al. (2017), section 4: 1 saturates tanh, and gradients vanish


class CellStack(TorchLayer):
    """The cells of a layer, one above the other, in one direction or two, with their parameters.

    Abstract: `Recurrent` says what the arguments mean, and runs it.
    """

    first_step: int | Tensor = 0  # which step batch normalisation takes the first of a pass for

    def __init__(
        self,
        cell: Cell | str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        recurrent_dropout: float = 0.0,
        zoneout: Zoneout = 0.0,
        weight_drop: float = 0.0,
        layer_norm: bool = False,
        batch_norm: int = 0,
        skips: Sequence[int] = (),
        connect: str = "plain",
        constrain: Constraints = None,
        engine: str = "auto",
        memory: str | int = "fast",
        init: Init = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.cell = find(cell) if isinstance(cell, str) else cell
        if not isinstance(self.cell, Cell):
            raise OptionError(f"{cell!r} is not a cell: give a Cell, or the name of one in the catalogue")
        check_names(self.cell)
        self.input_size = whole_number(input_size, "input_size")
        self.hidden_size = whole_number(hidden_size, "hidden_size")
        self.num_layers = whole_number(num_layers, "num_layers")
        self.bias, self.batch_first = flag(bias, "bias"), flag(batch_first, "batch_first")
        self.bidirectional = flag(bidirectional, "bidirectional")
        self.dropout = check_dropout(dropout, self.num_layers)
        self.proj_size = check_projection(proj_size, self.hidden_size)
        self.engine, self.memory = engines.check_engine(engine), engines.check_memory(memory)
        self.init, self.options = init, options
        self.layer_norm = flag(layer_norm, "layer_norm")
        self.batch_norm, self.skips = check_steps(batch_norm), check_skips(skips)
        self.connect, self.constrain = check_connection(connect), constrain
        self._check_memory()
        sorted_options = sort_options(self.cell, options)
        self._system = self._changed(sorted_options)
        self._noise = make_noise(self.cell.name, self._system, recurrent_dropout, zoneout, weight_drop)
        self._plans = {
            True: engines.make_plan(self._noise.training),
            False: engines.make_plan(self._noise.evaluation),
        }
        self._make(sorted_options, device, dtype or torch.get_default_dtype())
        self.reset_parameters()

    def _changed(self, options: CellOptions) -> System:
        """The equations of the cell, with the connections and the normalisation that were asked for."""
        projected = self.proj_size > 0
        system = self.cell.system(
            bias=self.bias, projection=projected, delays=options.delays, functions=options.functions
        )
        if self.skips:
            system = with_skips(system, self.skips)
        if self.layer_norm or self.batch_norm:
            system = with_normalisation(system, "layernorm" if self.layer_norm else "batchnorm")
        return system

    def _make(self, options: CellOptions, device: Any, dtype: torch.dtype) -> None:
        """Make all arrays, not filled."""
        self._sizes = dict.fromkeys(self._system.widths, self.hidden_size) | options.sizes
        self._sizes |= {"one": 1, PROJECTION: self.proj_size, INPUT: self.input_size}
        above = self.output_size * (2 if self.bidirectional else 1)
        self._connection = Connection(self.connect, self.input_size, above, self.num_layers)
        self._check_units()
        self._lay_out()
        for place in self._places:
            self._make_part(place, options.numbers, device, dtype)
        if self.connect == "highway":
            self.highways = self._connection.gates(device, dtype)
        if next(self.parameters(), None) is None:
            raise OptionError(f"{self.cell.name} has no parameters, so a layer of it holds nothing: add W @ x[t]")

    def _check_memory(self) -> None:
        if self.layer_norm and self.batch_norm:
            raise OptionError("layer_norm and batch_norm both scale what a matrix gives: take one of them")
        if self.batch_norm and self.memory != "fast":
            raise OptionError("batch_norm counts each batch once, and segments are run twice: use memory='fast'")

    def _check_units(self) -> None:
        one = [s.target for s in self._system.statements if isinstance(s, Rowwise) and self._sizes[s.width] == 1]
        if self.layer_norm and one:
            raise OptionError("layer_norm over one unit leaves nothing of it: use hidden_size=2 or more")
        wide = [state.name for state in self._system.states if state.width == INPUT]
        above = {self._connection.wide(layer) for layer in range(1, self.num_layers)} - {self.input_size}
        if wide and above:
            raise OptionError(
                f"the state {wide[0]} is as wide as the input, {self.input_size} below and {min(above)} "
                "above: use num_layers=1, or make them equal"
            )
        if self.cell.slower_to_faster and self.constrain:
            raise OptionError(f"{self.cell.name} takes entries of its matrix away: use constrain=None")
        if self.cell.slower_to_faster and self.proj_size:
            raise OptionError(f"{self.cell.name} orders its units, a projection would mix them: use proj_size=0")

    def _lay_out(self) -> None:
        """Work out, once for all passes, which arrays there are and how wide the states."""
        directions = ("", "_reverse") if self.bidirectional else ("",)
        each = [(layer, way) for layer in range(self.num_layers) for way in directions]
        self._places = tuple(Place(i, layer, bool(way), f"l{layer}{way}") for i, (layer, way) in enumerate(each))
        recurrent = [p for p in self._system.parameters if p.role == "recurrent" and p.rows != PROJECTION]
        square = [p.name for p in recurrent if p.columns and self._sizes[p.rows] == self._sizes[p.columns]]
        self._constraints = resolve_constraints(self.constrain, [p.name for p in recurrent], square)
        self._layout = tuple(
            engines.layout(
                self._system, {**self._sizes, INPUT: self._connection.wide(layer)}, frozenset(self._constraints)
            )
            for layer in range(self.num_layers)
        )
        self._state_widths = {s.name: self._sizes[s.width] * s.depth for s in self._system.states}
        if self._system.uses_time:
            self._state_widths["t"] = 1
        self._make_known()

    def _make_known(self) -> None:
        """Tell the engine of each layer's plans, in training and not, for graphs that will hold it."""
        self._registered = {
            mode: [engines.register(plan, s, self.engine, self.memory, self.cell.name) for s in self._layout]
            for mode, plan in self._plans.items()
        }

    def parts(self, training: bool | None = None) -> tuple[Part, ...]:
        """Return the parts of the stack, layer by layer, the one that runs backwards after the other.

        They draw what the layer draws in `training`; None is the mode that the layer is in.

        >>> import unvanish
        >>> layer = unvanish.LSTM(3, 4, bidirectional=True)
        >>> [part.name for part in layer.parts()], layer.parts()[1]["U_f"].shape
        (['l0', 'l0_reverse'], torch.Size([4, 4]))
        """
        return tuple(self._part(place, training) for place in self._places)

    def part(self, name: str, training: bool | None = None) -> Part:
        """Return the part of that name, `l1_reverse` (see `parts`)."""
        return self._part(next(place for place in self._places if place.name == name), training)

    def _part(self, place: Place, training: bool | None = None) -> Part:
        training = self.training if training is None else training
        stacks = self._layout[place.layer]
        return Part(
            place=place,
            cell=self.cell,
            system=self._system,
            plan=self._plans[training],
            stacks=stacks,
            arrays={stack.name: getattr(self, place.stored(stack.name)) for stack in stacks},
            numbers={name: getattr(self, place.stored(name)) for name in self._system.numbers},
            normalisers=self._normalisers(place, training) if self.batch_norm else {},
            widths=self._state_widths,
            sizes=self._sizes,
            noise=self._noise,
            training=training,
            engine=self.engine,
            memory=self.memory,
            registered=self._registered[training][place.layer],
        )

    @property
    def system(self) -> System:
        """The equations that a part runs, checked, without what training draws."""
        return self._system

    @property
    def output_size(self) -> int:
        """Width of the output in one direction: W."""
        return self._sizes[self._system.output_width]

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the states that `forward` takes and returns, in that order."""
        return tuple(self._state_widths)

    @property
    def recurrent_dropout(self) -> float:
        """The share of a state that the recurrent products do not see in training."""
        return self._noise.recurrent_dropout

    @property
    def zoneout(self) -> Zoneout:
        """The probability with which a unit of a state keeps its old value."""
        return self._noise.zoneout

    @property
    def weight_drop(self) -> float:
        """The share of the recurrent matrices that is dropped in training."""
        return self._noise.weight_drop

    # -- parameters ------------------------------------------------------------------------------------

    def _make_part(self, place: Place, numbers: Mapping[str, Any], device: Any, dtype: torch.dtype) -> None:
        for stack in self._layout[place.layer]:
            empty = torch.empty(stack.shape, device=device, dtype=dtype)
            self.register_parameter(place.stored(stack.name), nn.Parameter(empty))
        for name in self._system.numbers:
            if hasattr(self, place.stored(name)):
                raise OptionError(
                    f"{self.cell.name} declares a number '{name}', the name of an array in every layer: rename it"
                )
            value = fixed_number(self.cell, name, numbers.get(name), self.hidden_size, device, dtype)
            self.register_buffer(place.stored(name), value)
        for line in self._batch_norms():
            shape = self.batch_norm, self._sizes[line.width]
            means, variances = (place.stored(f"{kind}{line.target}") for kind in ("mean", "variance"))
            self.register_buffer(means, torch.zeros(shape, device=device, dtype=dtype))
            self.register_buffer(variances, torch.ones(shape, device=device, dtype=dtype))

    def _batch_norms(self) -> list[Rowwise]:
        """The lines that normalise over the batch."""
        return [s for s in self._system.statements if isinstance(s, Rowwise) and s.function == "batchnorm"]

    def reset_parameters(self) -> None:
        """Fill all parameters anew: torch's uniform, then the cell's initial values, then `init`.

        A matrix that is constrained takes what comes nearest to that, as a parameter of its own.
        """
        constrained = [
            (place.stored(f"weight_{name}"), *how)
            for name, how in self._constraints.items()
            for place in self._places
        ]
        for array, *_ in constrained:
            if parametrize.is_parametrized(self, array):
                parametrize.remove_parametrizations(self, array)
        self._fill()
        for array, kind, number in constrained:
            constrain_array(self, array, kind, number)

    def _fill(self) -> None:
        bound = 1.0 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        names = [parameter.name for parameter in self._system.parameters]
        usual: dict[str, Initialiser] = {**self.cell.initial}
        if self.layer_norm or self.batch_norm:
            usual |= {gain("*"): BATCH_GAIN if self.batch_norm else 1.0, shift("*"): 0.0}
        if self.connect == "highway":
            reset_gates(self.highways)
        # What the layer has not, such as biases where bias=False, the cell cannot fill.
        fill(self, {p: value for p, value in usual.items() if fnmatch.filter(names, p)}, self.init)

    def handed_on(self, layer: int, x_TBI: Tensor, output_TBW: Tensor) -> Tensor:
        """What a layer hands on to the one above, from its input and its output in all directions."""
        gates = self.highways if self.connect == "highway" else None
        return self._connection.handed_on(layer, x_TBI, output_TBW, gates)

    def __getitem__(self, name: str) -> Tensor:
        """Return a parameter by its equation name, as a view into its stack; layer 0 where none is named.

        A constrained matrix comes as the equations read it, worked out anew.
        """
        ends = [place for place in self._places if name.endswith(place.stored(""))]
        for place, stem in [(self._places[0], name), *((p, name.removesuffix(p.stored(""))) for p in ends)]:
            for stack in self._layout[place.layer]:
                if stem in stack.rows:
                    array: Tensor = getattr(self, place.stored(stack.name))
                    return array[stack.rows[stem]]
        known = ", ".join(parameter.name for parameter in self._system.parameters)
        raise KeyError(f"no parameter '{name}' in {self.cell.name}: it has {known} (with _l1, _l0_reverse, …)")

    @property
    def _weight(self) -> Tensor:
        """Any of the parameters: all are of one type, on one device."""
        for parameter in self._parameters.values():  # parameters() would walk through all modules
            if parameter is not None:
                return parameter
        found: Tensor = getattr(
            self, self._places[0].stored(self._layout[0][0].name)
        )  # constrained, or replaced by a tensor
        return found

    def _normalisers(self, place: Place, training: bool) -> dict[str, StepNorm]:
        found = {}
        for line in self._batch_norms():
            means, variances = (
                getattr(self, place.stored(f"{kind}{line.target}")) for kind in ("mean", "variance")
            )
            found[line.target.name] = StepNorm(means, variances, training, self.first_step)
        return found

    def zero_states(self, batch: int) -> tuple[Tensor, ...]:
        """Return the states that a sequence starts from: zeros, (L·R, B, D·W) each."""
        weight, count = self._weight, len(self._places)
        return tuple(
            weight.new_zeros(count, batch, width, dtype=torch.long if name == "t" else None)
            for name, width in self._state_widths.items()
        )
