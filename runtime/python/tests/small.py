"""The spec of the tests."""

#: Small, and with enough blocks that a selection of four is a choice.
SMALL = dict(heads=4, kv_heads=2, head_dim=64, block=16, topk=4, dtype="fp16",
             params=dict(window=8, stride=4, coarse_window=32, coarse_stride=16, local=2))
