"""One step of a cell from its statements and partial derivatives alone: what every back end must agree with.

Shapes: B batch, H any width. A value is (B, H), a parameter (H,) or (rows, columns).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from unvanish.engine.arrays import evaluate, rowwise
from unvanish.equations.calculus import Matrix, Row, Scale, Term, linearise
from unvanish.equations.expression import Expr, Ref
from unvanish.equations.system import Elementwise, Product, Rowwise, Statement, System

Values = dict[Ref, Tensor]


class Walker:
    """Holds the values of one step and walks its derivatives, forwards or backwards."""

    def __init__(self, system: System, known: Mapping[Ref, Tensor], matrices: Mapping[str, Tensor], time: Tensor):
        self.system, self.matrices, self.time = system, matrices, time
        self.value: Values = dict(known)
        self.like = self.value[Ref("x", 0)]
        for statement in system.statements:
            self.value[statement.target] = self.run(statement)

    def run(self, statement: Statement) -> Tensor:
        match statement:
            case Elementwise(_, expression):
                return self.work_out(expression)
            case Product(_, matrix, operand):
                return self.value[operand] @ self.matrices[matrix].T
            case Rowwise(_, function, operand):
                return rowwise(function, self.value[operand])

    def work_out(self, expression: Expr) -> Tensor:
        value = evaluate(expression, self.value.__getitem__, self.time, self.like)
        return torch.as_tensor(value, dtype=self.like.dtype)

    def backwards(self, adjoints: Mapping[Ref, Tensor]) -> tuple[Values, dict[str, Tensor]]:
        """Return the adjoints of all that the step reads, and of its matrices."""
        adjoint: Values = {ref: sent.sum_to_size(self.value[ref].shape) for ref, sent in adjoints.items()}
        of_matrix = {name: torch.zeros_like(matrix) for name, matrix in self.matrices.items()}
        for term in reversed(linearise(self.system)):
            if term.target not in adjoint:
                continue
            if isinstance(term, Matrix):
                of_matrix[term.matrix] += rows(adjoint[term.target]).T @ rows(self.value[term.operand])
            share = self.pull(term, adjoint[term.target])
            share = share.sum_to_size(self.value[term.operand].shape)
            adjoint[term.operand] = adjoint.get(term.operand, 0) + share
        return adjoint, of_matrix

    def pull(self, term: Term, above: Tensor) -> Tensor:
        match term:
            case Scale():
                return self.work_out(term.factor) * above
            case Matrix():
                return above @ self.matrices[term.matrix]
            case Row():
                _, vjp = torch.func.vjp(lambda a: rowwise(term.function, a), self.value[term.operand])
                return vjp(above)[0]

    def forwards(self, tangents: Mapping[Ref, Tensor], of_matrix: Mapping[str, Tensor]) -> Values:
        """Return the tangents of all that the step defines."""
        tangent: Values = dict(tangents)
        for term in linearise(self.system):
            share = self.push(term, tangent.get(term.operand, torch.zeros_like(self.value[term.operand])))
            if isinstance(term, Matrix):
                share = share + self.value[term.operand] @ of_matrix[term.matrix].T
            tangent[term.target] = tangent.get(term.target, 0) + share
        return tangent

    def push(self, term: Term, below: Tensor) -> Tensor:
        match term:
            case Scale():
                return self.work_out(term.factor) * below
            case Matrix():
                return below @ self.matrices[term.matrix].T
            case Row():
                return torch.func.jvp(lambda a: rowwise(term.function, a), (self.value[term.operand],), (below,))[1]


def rows(value: Tensor) -> Tensor:
    """Give what is the same for all rows, (H,), a batch of one."""
    return value.reshape(-1, value.shape[-1])
