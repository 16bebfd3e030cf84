"""Graph: tensors, operators' common form, graphs with repeats, counting, workloads."""
