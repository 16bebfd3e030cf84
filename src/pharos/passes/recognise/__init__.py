"""Recognition: the blocks, the family and the inductive biases of a graph, from its structure alone."""

from pharos.passes.recognise.blocks import Block as Block
from pharos.passes.recognise.recognition import Recognition as Recognition
from pharos.passes.recognise.recognition import recognise as recognise
