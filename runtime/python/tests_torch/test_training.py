"""winnow.torch in training, on the CPU and on a GPU where torch sees one: gradcheck, compiled code with gradients, activation
checkpointing, loss scales, autocast, and inputs of every kind. test_torch.py compares gradients with fp64."""

import os
import tempfile

_cache = tempfile.TemporaryDirectory()
os.environ["WINNOW_CACHE_DIR"] = _cache.name

import pytest  # noqa: E402
import torch  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils.checkpoint import (  # noqa: E402
    CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts, set_checkpoint_early_stop)

import winnow  # noqa: E402
from winnow.torch import prepare, sparse_attention  # noqa: E402

PARAMS = dict(window=8, stride=4, coarse_window=32, coarse_stride=16, local=2)
SPEC = dict(method="infllm_v2", block=16, topk=4, params=PARAMS)
TOKENS = 96
SPARSE = torch.ops.winnow.sparse_attention.default
BACKWARD = torch.ops.winnow.sparse_attention_backward.default


@pytest.fixture(params=["cpu"] + ["cuda"] * torch.cuda.is_available())
def device(request):
    return torch.device(request.param)


def tensors(device, dtype=torch.bfloat16, tokens=TOKENS, **more):
    chance = torch.Generator().manual_seed(3)
    return [torch.randn(tokens, heads, 64, generator=chance).to(device, dtype).requires_grad_(**more) for heads in (4, 2, 2)]


def lengths(*ends, device):
    return torch.tensor([0, *ends], dtype=torch.int32, device=device)


def gradients(call, *leaves):
    """Of a random product with what the call gives, by the leaves that want one."""
    for leaf in leaves:
        leaf.grad = None
    out = call(*leaves)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out))
    return [leaf.grad for leaf in leaves if leaf.requires_grad]


def attend(q, k, v, cu=None, **spec):
    return sparse_attention(q, k, v, lengths(len(q), device=q.device) if cu is None else cu, **{**SPEC, **spec})


def same(found, wanted):
    return len(found) == len(wanted) and all(map(torch.equal, found, wanted))


class Calls(TorchDispatchMode):
    """Counts the operators of this package."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        if function in (SPARSE, BACKWARD):
            self.seen.append(function)
        return function(*arguments, **(named or {}))


def test_gradcheck(device):
    """Kernels take 16 bits, so the differences of gradcheck, in fp64, go over steps that fp16 holds: all inputs are multiples
    of 1/16 up to 1, the step is 1/4. All selected blocks are forced, so that no step changes the selection.

    Out is below 1, where fp16 rounds by 2^-12 at most: differences are off by 2 * 2^-12 / (2 / 4) = 2^-10. What they leave out
    is the third derivative times (1/4)^2 / 6, a factor of (1/2 * 1)^3 for the scale and q or k in it and of less than 1/3
    for a mean of third order: less than 2^-11. Gradients of up to 1 round by 2^-12. Together less than 2^-9, and the largest
    gradient with respect to q, k and v is 50 to 250 times that. The kernels add in one order: the same bits twice (nondet_tol).
    """
    chance = torch.Generator().manual_seed(3)
    cut, tokens = 4, 40  # channels that are varied, of 64
    whole = [torch.randint(-16, 17, (tokens, heads, 64), generator=chance).double().to(device) / 16 for heads in (2, 1, 1)]
    spec = dict(topk=3, scale=0.5, params={**PARAMS, "local": 2})

    def call(*parts):
        q, k, v = (torch.cat((part, rest[..., cut:]), -1).half() for part, rest in zip(parts, whole))
        return attend(q, k, v, **spec)[-9:, :, :cut].double()  # in the last of three blocks

    parts = [tensor[..., :cut].clone().requires_grad_() for tensor in whole]
    assert torch.autograd.gradcheck(call, parts, eps=0.25, atol=2**-9, rtol=0, nondet_tol=0)


def test_opcheck(device):
    q, k, v = tensors(device)
    cu = lengths(TOKENS, device=device)
    out, lse, ids = sparse_attention(q, k, v, cu, return_lse=True, return_ids=True, backward=True, **SPEC)
    text = prepare(device=device, heads=4, kv_heads=2, head_dim=64, dtype="bf16", backward=True, **SPEC)
    plain = [tensor.detach() for tensor in (torch.randn_like(out), q, k, v, out, lse, ids, cu, cu)]
    torch.library.opcheck(BACKWARD, (*plain, TOKENS, TOKENS, text))
    torch.library.opcheck(SPARSE, (q, k, v, cu, cu, TOKENS, TOKENS, text))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compile(device, backend):
    def layer(q, k, v, cu):
        return attend(q * 2, k, v, cu) * 1.5

    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    for tokens in [TOKENS] + [130] * (backend == "aot_eager"):  # the second time with a dynamic shape
        leaves, cu = tensors(device, tokens=tokens), lengths(tokens, device=device)
        assert same(*(gradients(lambda *leaves: call(*leaves, cu), *leaves) for call in (compiled, layer)))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing(device, use_reentrant):
    leaves, kept = tensors(device), []

    def layer(q, k, v):
        out, ids = sparse_attention(q * 2, k, v, lengths(TOKENS, device=device), return_ids=True, **SPEC)
        kept.append(ids)
        return out

    wanted = gradients(layer, *leaves)
    with set_checkpoint_early_stop(False):  # layer is to end each time, and leave its ids
        assert same(gradients(lambda *leaves: checkpoint(layer, *leaves, use_reentrant=use_reentrant), *leaves), wanted)
    assert len(kept) == 3 and torch.equal(kept[0], kept[1]) and torch.equal(kept[1], kept[2])


def test_ids_are_kept(device):
    """One launch forward and one backward; with checkpoints two forward, but where the policy keeps what attention gave."""
    leaves = tensors(device)

    def policy(context, function, *arguments, **named):
        return CheckpointPolicy.MUST_SAVE if function == SPARSE else CheckpointPolicy.PREFER_RECOMPUTE

    def layer(q, k, v):
        return attend(q * 2, k, v)

    def selective(*leaves):
        return checkpoint(layer, *leaves, use_reentrant=False, context_fn=lambda: create_selective_checkpoint_contexts(policy))

    found = []
    for call, wanted in ((layer, [SPARSE, BACKWARD]), (selective, [SPARSE, BACKWARD]), (
            lambda *leaves: checkpoint(layer, *leaves, use_reentrant=False), [SPARSE, SPARSE, BACKWARD])):
        with Calls() as calls:
            found.append(gradients(call, *leaves))
        assert calls.seen == wanted
    assert same(found[1], found[0]) and same(found[2], found[0])


class Layer(torch.nn.Module):
    """Projections in fp32 around attention, as mixed precision has them."""

    def __init__(self, device):
        super().__init__()
        torch.manual_seed(3)
        self.qkv, self.out = torch.nn.Linear(32, 8 * 64, bias=False), torch.nn.Linear(4 * 64, 32, bias=False)
        self.to(device)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (8, 64)).split((4, 2, 2), 1)
        turned = q * torch.ones(64, device=q.device)  # in fp32 again, as rotary embeddings leave it
        return self.out(attend(turned, k, v).flatten(1)).float()


def step(layer, x, dtype, scaler=None, factor=1.0):
    """Gradients of one step; with a scaler also whether the weights have moved."""
    layer.zero_grad()
    with torch.autocast(x.device.type, dtype=dtype):
        loss = layer(x).square().mean() * factor
    if scaler is None:
        loss.backward()
        return [weight.grad.clone() for weight in layer.parameters()], True
    optimizer, before = torch.optim.SGD(layer.parameters(), lr=1.0), layer.qkv.weight.detach().clone()
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    found = [weight.grad.clone() for weight in layer.parameters()]
    scaler.step(optimizer)
    scaler.update()
    return found, not torch.equal(before, layer.qkv.weight)


def distance(found, wanted):
    return max(((one - other).norm() / other.norm()).item() for one, other in zip(found, wanted))


def test_autocast_and_loss_scales(device):
    x = torch.randn(TOKENS, 32, generator=torch.Generator().manual_seed(4)).to(device)
    small = 2.0**-20  # of gradients that fp16 does not hold without a scale: its least number is 2^-24
    wanted, _ = step(Layer(device), x, torch.bfloat16)
    for one in wanted:
        assert one.dtype == torch.float32 and one.any()
    unscaled, _ = step(Layer(device), x, torch.float16, factor=small)
    assert not unscaled[0].any()
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**20)
    scaled, moved = step(Layer(device), x, torch.float16, scaler, small)
    # Both round: bf16 by 2^-9 at each of some ten operations on the way.
    assert moved and distance([one / small for one in scaled], wanted) < 2**-5
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**40)
    found, moved = step(Layer(device), x, torch.float16, scaler)
    assert not moved and scaler.get_scale() == 2.0**39 and not all(one.isfinite().all() for one in found)


@pytest.mark.parametrize("wanting", [(0,), (1,), (2,), (0, 2), (1, 2)])
def test_gradients_of_some_inputs(device, wanting):
    whole, leaves = gradients(attend, *tensors(device)), tensors(device)
    for at, leaf in enumerate(leaves):
        leaf.requires_grad_(at in wanting)
    assert same(gradients(attend, *leaves), [whole[at] for at in wanting])


def test_inputs_that_are_not_contiguous(device):
    leaves = tensors(device)
    wanted = gradients(lambda *leaves: attend(*leaves).transpose(0, 2), *leaves)

    def views(q, k, v):
        both = torch.cat((k, v), -1)
        return attend(q.transpose(0, 1).contiguous().transpose(0, 1), *both.split(64, -1)).transpose(0, 2)

    assert same(gradients(views, *leaves), wanted)
    (spread,) = torch.autograd.grad(attend(*leaves).sum(), leaves[:1])  # dout is one number everywhere
    ones = torch.ones(TOKENS, 4, 64, dtype=torch.bfloat16, device=device)
    assert torch.equal(spread, torch.autograd.grad(attend(*leaves), leaves[:1], ones)[0])


def test_empty_sequences(device):
    leaves = tensors(device)
    cu = lengths(0, 40, 40, TOKENS, TOKENS, device=device)
    found = gradients(lambda *leaves: attend(*leaves, cu), *leaves)
    assert same(found, gradients(lambda *leaves: attend(*leaves, lengths(40, TOKENS, device=device)), *leaves))
    apart = gradients(lambda *leaves: torch.cat([attend(*(leaf[part] for leaf in leaves)) for part in
                                                 (slice(0, 40), slice(40, TOKENS))]), *leaves)
    assert same(found, apart)
    nothing = [leaf.detach()[:0].requires_grad_() for leaf in leaves]
    assert [one.shape[0] for one in gradients(lambda *leaves: attend(*leaves, lengths(0, device=device)), *nothing)] == [0] * 3


def test_queries_behind_a_history(device):
    """Of which some keys have no query of their own; those of a sequence without queries have gradients of 0."""
    q, k, v = tensors(device)
    cu_q, cu_k = lengths(20, 20, device=device), lengths(80, TOKENS, device=device)
    found = gradients(lambda q, k, v: sparse_attention(q, k, v, cu_q, cu_k, **SPEC), q[-20:].detach().requires_grad_(), k, v)
    assert found[1][:60].any() and not any(one[80:].any() for one in found[1:])


def test_second_derivatives_are_refused(device):
    q, k, v = tensors(device)
    (dq,) = torch.autograd.grad(attend(q, k, v).square().sum(), q, create_graph=True)
    with pytest.raises(winnow.UnsupportedError, match="sparse_attention has no second derivatives"):
        dq.sum().backward()
