"""Divergences of a teacher's and a student's predictions by their logits, with gradients by hand: what every step of a distilled student computes.

Autograd keeps each step in between and goes back through it. Here the gradient is known, so nothing but it is kept.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class SoftmaxDivergence(torch.autograd.Function):
    """KL of two softmaxes over channels by their logits, pixel by pixel; no gradient for the teacher's.

    Its gradient is `softmax(student) - softmax(teacher)`: with one exp for each network, and products made in place (fresh maps cost a CPU
    more time than the arithmetic), three quarters of the time of autograd over two log-softmaxes.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        """KL(softmax(teacher) || softmax(student)) of float32 logits (N, C, H, W): (N, H, W)."""
        student, q, student_sum = exponentials(student)
        teacher, p, teacher_sum = exponentials(teacher)
        p.div_(teacher_sum)
        each = teacher.sub_(student).mul_(p).sum(1).add_(student_sum.div(teacher_sum).log_()[:, 0])
        ctx.save_for_backward(q.div_(student_sum).sub_(p))
        return each

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient for the student's logits."""
        (slope,) = ctx.saved_tensors
        return gradient[:, None] * slope, None


def exponentials(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits minus their largest, exp of that, and its sum over channels (N, 1, H, W): no exp overflows."""
    logits = logits - logits.amax(1, keepdim=True)
    power = logits.exp()
    return logits, power, power.sum(1, keepdim=True)


class BernoulliDivergence(torch.autograd.Function):
    """KL of two yes-or-no answers by their logits, element by element; no gradient for the teacher's.

    Its gradient is `sigmoid(student) - sigmoid(teacher)`, so none of the steps in between has to be kept or gone back through: a
    quarter of the time that it takes autograd with PyTorch's `logsigmoid`, whose `log1p` is computed number by number on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor) -> Tensor:
        """KL(Bernoulli(sigmoid(teacher)) || Bernoulli(sigmoid(student))) of float32 logits of any one shape."""
        # KL stays the same when both logits change sign. With the teacher's made >= 0 no large terms cancel.
        sign = torch.ones_like(student).copysign_(teacher)
        student, teacher = student * sign, teacher.abs()
        doubt = (-teacher).sigmoid_()
        ctx.save_for_backward((doubt - (-student).sigmoid_()).mul_(sign))
        return softplus(-student).sub_(softplus(-teacher)).add_(student.sub_(teacher).mul_(doubt))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient for the student's logits."""
        (slope,) = ctx.saved_tensors
        return gradient * slope, None


def softplus(values: Tensor) -> Tensor:
    """`log(1 + exp(x))` to the last digits, in operations that a CPU does for many numbers at once."""
    power = values.abs().neg_().exp_()
    one_more = power + 1
    lost = (one_more - 1).sub_(power).div_(one_more)  # what rounding took from 1 + power
    return one_more.log_().sub_(lost).add_(values.clamp(min=0))
