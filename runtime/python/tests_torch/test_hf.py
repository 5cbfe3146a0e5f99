"""winnow.hf on the CPU, and on a GPU where torch sees one: a small Llama against itself with attention in plain PyTorch."""

import os
import tempfile
import warnings

_cache = tempfile.TemporaryDirectory()
os.environ["WINNOW_CACHE_DIR"] = _cache.name

import pytest  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import (  # noqa: E402
    ContinuousBatchingConfig, DynamicCache, GenerationConfig, LlamaConfig, LlamaForCausalLM, StaticCache)
from transformers.generation.continuous_batching import cache as continuous_cache  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from transformers.masking_utils import create_masks_for_generate  # noqa: E402

import hf_reference  # noqa: E402
import winnow  # noqa: E402
import winnow.hf  # noqa: E402

hf_reference.register()

torch.set_num_threads(1)  # the model is small

PARAMS = dict(window=8, stride=4, coarse_window=32, coarse_stride=16, local=2)
SPEC = dict(method="infllm_v2", block=16, topk=6, params=PARAMS)
TOKENS, STEPS, FEW, VOCABULARY = 700, 64, 16, 97


@pytest.fixture(autouse=True)
def registered():
    winnow.hf.register(**SPEC)


def make_model(implementation="winnow", **more):
    """16 query heads per KV head, and queries and keys large enough that some blocks matter more than others."""
    torch.manual_seed(5)
    config = LlamaConfig(vocab_size=VOCABULARY, hidden_size=128, intermediate_size=128, num_hidden_layers=2,
                         num_attention_heads=32, num_key_value_heads=2, head_dim=64, max_position_embeddings=2048,
                         initializer_range=0.1, bos_token_id=None, eos_token_id=None, pad_token_id=0, **more)
    config._attn_implementation = implementation
    return LlamaForCausalLM(config).to(torch.float16).eval()


@pytest.fixture(scope="module", params=["cpu"] + ["cuda"] * torch.cuda.is_available())
def model(request):
    winnow.hf.register(**SPEC)
    return make_model().to(request.param)


def prompt(tokens=TOKENS, seed=0):
    """Phrases that come again at irregular places."""
    chance = torch.Generator().manual_seed(seed)
    phrases = torch.randint(1, VOCABULARY, (12, 20), generator=chance)
    return phrases[torch.randint(12, (-(-tokens // 20),), generator=chance)].flatten()[None, :tokens]


SHORT = prompt(430, seed=1)


def left_padded(*prompts):
    longest = max(len(ids[0]) for ids in prompts)
    ids, mask = torch.zeros(2, len(prompts), longest, dtype=torch.long)
    for row, (one,) in enumerate(prompts):
        ids[row, longest - len(one):], mask[row, longest - len(one):] = one, 1
    return dict(input_ids=ids, attention_mask=mask)


def placed(model, inputs):
    return {name: value.to(model.device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}


@torch.no_grad()
def logits_of(model, implementation="winnow_checked", **inputs):
    model.set_attn_implementation(implementation)
    logits = model(**placed(model, inputs)).logits
    model.set_attn_implementation("winnow")
    return logits


def errors(got, wanted):
    """Of each token."""
    return (got - wanted).float().norm(dim=-1) / wanted.float().norm(dim=-1)


def check_close(got, wanted):
    """Within the noise of fp16, but for the few tokens whose last block won by less than that."""
    assert (errors(got, wanted) < 5e-3).float().mean() > 0.98


@torch.no_grad()
def tokens_of(model, cache=None, implementation="winnow", beams=1, steps=STEPS, **inputs):
    inputs.setdefault("attention_mask", torch.ones_like(inputs["input_ids"]))
    model.set_attn_implementation(implementation)
    tokens = model.generate(**placed(model, inputs), past_key_values=cache, max_new_tokens=steps, do_sample=False,
                            num_beams=beams)[:, -steps:]
    model.set_attn_implementation("winnow")
    return tokens


@pytest.fixture(scope="module")
def wanted_tokens(model):
    return tokens_of(model, DynamicCache(config=model.config), "winnow_reference", input_ids=prompt())


@pytest.fixture(scope="module")
def wanted_of_short(model):
    return tokens_of(model, DynamicCache(config=model.config), "winnow_reference", input_ids=SHORT)


def test_logits(model):
    logits = logits_of(model, input_ids=prompt())
    check_close(logits, logits_of(model, "winnow_reference", input_ids=prompt()))
    assert errors(logits, logits_of(model, "eager", input_ids=prompt())).median() > 0.1  # the selection matters


def test_dense_below_dense_len(model):
    winnow.hf.register(**{**SPEC, "params": {**PARAMS, "dense_len": 300}})
    check_close(logits_of(model, input_ids=prompt(299)), logits_of(model, "eager", input_ids=prompt(299)))
    check_close(logits_of(model, input_ids=prompt(300)), logits_of(model, "winnow_reference", input_ids=prompt(300)))


CACHES = dict(dynamic=lambda config: DynamicCache(config=config), static=lambda config: StaticCache(config, 1000),
              winnow=lambda config: winnow.hf.Cache(config, 1000))


@pytest.mark.parametrize("kind", CACHES)
@pytest.mark.filterwarnings("ignore:winnow.hf")
def test_generate(model, wanted_tokens, kind):
    assert torch.equal(tokens_of(model, CACHES[kind](model.config), input_ids=prompt()), wanted_tokens)


@pytest.mark.parametrize("kind", CACHES)
@pytest.mark.filterwarnings("ignore:winnow.hf")
def test_left_padding_in_a_batch_of_two(model, wanted_tokens, wanted_of_short, kind):
    tokens = tokens_of(model, CACHES[kind](model.config), **left_padded(SHORT, prompt()))
    assert torch.equal(tokens, torch.cat((wanted_of_short, wanted_tokens)))


@pytest.mark.parametrize("kind", CACHES)
def test_prefill_in_chunks(model, kind):
    """Of which the first is nothing but padding for one sequence."""
    padded = left_padded(prompt(400), SHORT)
    cache, parts = CACHES[kind](model.config), []
    for begin, end in ((0, 20), (20, 300), (300, 430)):
        parts.append(logits_of(model, input_ids=padded["input_ids"][:, begin:end], past_key_values=cache,
                               attention_mask=padded["attention_mask"][:, :end],
                               position_ids=torch.arange(begin, end).expand(2, -1)))
    whole, chunked = logits_of(model, **padded, use_cache=False), torch.cat(parts, 1)
    assert chunked.isfinite().all()
    check_close(chunked[0, 30:], whole[0, 30:])
    check_close(chunked[1], whole[1])


@pytest.mark.filterwarnings("ignore:winnow.hf")
def test_beams(model):
    kept = tokens_of(model, winnow.hf.Cache(model.config, 1000), beams=3, steps=FEW, input_ids=SHORT)
    assert torch.equal(kept, tokens_of(model, beams=3, steps=FEW, input_ids=SHORT))


@torch.no_grad()
def test_a_compiled_step(model, wanted_of_short):
    cache = StaticCache(model.config, 1000)
    logits_of(model, input_ids=SHORT, past_key_values=cache)
    step = torch.compile(model.forward, fullgraph=True, backend="aot_eager")
    for at in range(3):
        mask = create_masks_for_generate(model.config, torch.empty(1, 1, 0, dtype=model.dtype, device=model.device),
                                         torch.ones(1, 431 + at), cache)
        inputs = dict(input_ids=wanted_of_short[:, at : at + 1], position_ids=torch.tensor([[430 + at]]))
        logits = step(**placed(model, inputs), attention_mask=mask, past_key_values=cache).logits
        assert logits.argmax().item() == wanted_of_short[0, at + 1].item()


class NothingReadBack(TorchDispatchMode):
    """Refuses the operators that wait for a device."""

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        assert function._schema.name not in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero")
        return function(*arguments, **(named or {}))


@torch.no_grad()
def test_a_step_reads_nothing_back(model):
    cache = winnow.hf.Cache(model.config, 600)
    logits = logits_of(model, input_ids=SHORT, past_key_values=cache)
    with NothingReadBack():
        model(input_ids=logits[:, -1:].argmax(-1), past_key_values=cache)


@torch.no_grad()
def test_a_captured_step(model, wanted_of_short):
    if model.device.type == "cpu":
        pytest.skip("graphs are those of CUDA")
    cache = winnow.hf.Cache(model.config, 1000)
    token = logits_of(model, input_ids=SHORT, past_key_values=cache)[:, -1:].argmax(-1)

    def step():
        token.copy_(model(input_ids=token, past_key_values=cache).logits.argmax(-1))

    step()  # loads the kernels
    tokens, graph = [token.item()], torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for _ in range(STEPS - 2):
        graph.replay()
        tokens.append(token.item())
    assert tokens == wanted_of_short[0, 1:].tolist()


def test_rows_of_the_cache_are_those_of_its_keys(model):
    cache = winnow.hf.Cache(model.config, 600)
    tokens_of(model, cache, steps=FEW, **left_padded(prompt(300), prompt(420)))
    layer = cache.layers[1]
    assert layer.keys.shape[2] == 768 and [rows.shape[1] for rows in layer.rows.tensors] == [192, 48]
    rows = layer.rows.tensors[0][0, 1:70].float()  # a row lies in the slot of its last key
    keys = layer.keys[0, :, 120:].float().unfold(1, 8, 4).mean(-1)[:, :69].transpose(0, 1)
    torch.testing.assert_close(rows, keys, rtol=1e-3, atol=1e-3)


def test_a_cache_without_rows_warns_once(model):
    winnow.hf._warn_of_lost_rows.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tokens_of(model, steps=FEW, input_ids=prompt(100))
        tokens_of(model, winnow.hf.Cache(model.config, 200), steps=FEW, input_ids=prompt(100))
    assert ["winnow.hf: this cache keeps no summaries" in str(one.message) for one in caught].count(True) == 1


def test_a_cache_that_missed_rows(model):
    """Since another attention function, or another spec, has filled it; after a reset it is as new."""
    cache = winnow.hf.Cache(model.config, 600)
    ids, more = SHORT[:, :400], SHORT[:, 400:]
    wanted = logits_of(model, input_ids=SHORT)
    for first in ("winnow_reference", "winnow"):
        logits_of(model, first, input_ids=ids, past_key_values=cache)
        check_close(logits_of(model, input_ids=more, past_key_values=cache), wanted[:, 400:])
        assert cache.layers[1].rows.appended == 430
        cache.reset()
    padded = left_padded(prompt(300), SHORT)  # of which rows begin behind the padding
    whole = logits_of(model, **padded, use_cache=False)
    cache = winnow.hf.Cache(model.config, 600)
    logits_of(model, "winnow_reference", input_ids=padded["input_ids"][:, :400], past_key_values=cache,
              attention_mask=padded["attention_mask"][:, :400])
    more = logits_of(model, input_ids=padded["input_ids"][:, 400:], past_key_values=cache,
                     position_ids=torch.arange(400, 430)[None], attention_mask=padded["attention_mask"])
    check_close(more, whole[:, 400:])


def test_packed_batches(model):
    parts = prompt(300), prompt(410, seed=1)
    packed = dict(input_ids=torch.cat(parts, 1), use_cache=False,
                  position_ids=torch.cat([torch.arange(len(part[0])) for part in parts])[None])
    lengths = torch.tensor([0, 300, 710], dtype=torch.int32)
    given = dict(cu_seq_lens_q=lengths, cu_seq_lens_k=lengths, max_length_q=410, max_length_k=410)
    wanted = torch.cat([logits_of(model, input_ids=part) for part in parts], 1)
    check_close(logits_of(model, **packed, **given), wanted)
    check_close(logits_of(model, **packed), wanted)
    check_close(logits_of(model, "winnow_reference", **packed), wanted)


# CI has transformers 5.17. Later versions can be tried by hand (CONTRIBUTING.md).
takes_paged = pytest.mark.skipif(tuple(map(int, transformers.__version__.split(".")[:2])) >= (5, 19),
                                 reason="from 5.19 on generate_batch refuses every attention function but transformers' own")


def generate_batch(model, prompts, implementation="paged|winnow", block=32, **more):
    """The tokens of each sequence, in order; prompts come in chunks of 128."""
    model.set_attn_implementation(implementation)
    settings = ContinuousBatchingConfig(block_size=block, num_blocks=2560 // block, max_batch_tokens=128)
    config = GenerationConfig(max_new_tokens=FEW, eos_token_id=-1, pad_token_id=0, **{"do_sample": False, **more})
    try:
        found = model.generate_batch([one[0].tolist() for one in prompts], config, settings)
    finally:
        model.set_attn_implementation("winnow")
    return [one.generated_tokens for one in found.values()]


@pytest.fixture
def memory(monkeypatch, model):
    """How much memory there is: transformers asks psutil on the CPU."""
    if model.device.type == "cpu":
        monkeypatch.setattr(continuous_cache, "get_device_and_memory_breakdown", lambda: (model.device, 1 << 32, 0, 0))


RAGGED = [prompt(), SHORT, prompt(7, seed=2), prompt(), prompt(410, seed=3)]  # the fourth shares the first one's pages


@takes_paged
@pytest.mark.filterwarnings("error:winnow.hf")
def test_continuous_batches(model, memory, wanted_tokens, wanted_of_short):
    tokens = generate_batch(model, RAGGED)
    assert tokens == generate_batch(model, RAGGED, "paged|winnow_reference")
    assert tokens[0] == tokens[3] == wanted_tokens[0, :FEW].tolist() and tokens[1] == wanted_of_short[0, :FEW].tolist()


@takes_paged
def test_continuous_batches_without_rows(model, memory, wanted_of_short):
    """Rows of 4 tokens do not fit pages of 6."""
    assert generate_batch(model, [SHORT], block=6) == wanted_of_short[:, :FEW].tolist()


@takes_paged
def test_continuous_batches_that_fork(model, memory, wanted_of_short):
    """The pages that a second sequence gets are copied, but not their rows."""
    winnow.hf._warn_of_copied_pages.cache_clear()
    with pytest.warns(UserWarning, match="winnow.hf: pages of this cache were written by others"):
        tokens = generate_batch(model, [SHORT], do_sample=True, top_k=1, num_return_sequences=2)
    assert tokens == wanted_of_short[:, :FEW].tolist()


@takes_paged
def test_pages_are_for_generate_batch(model):
    with pytest.raises(winnow.UnsupportedError, match=r"paged\|winnow is for model.generate_batch"):
        logits_of(model, "paged|winnow", input_ids=prompt(64))


def test_the_spec_of_a_config():
    winnow.hf.register("infllm_v2")
    model = make_model(sparse_config=dict(kernel_size=32, kernel_stride=16, init_blocks=1, block_size=64, window_size=128,
                                          topk=3, use_nope=False, dense_len=256))
    spec = winnow.hf._spec_of(model.config)
    assert (spec["topk"], spec["params"]["local"], spec["params"]["coarse_window"]) == (5, 3, 128)
    check_close(logits_of(model, input_ids=prompt(500)), logits_of(model, "winnow_reference", input_ids=prompt(500)))


def test_errors_are_sentences(model):
    right = dict(input_ids=prompt(64), attention_mask=(torch.arange(64) < 60).long()[None])
    with pytest.raises(winnow.UnsupportedError, match="pad on the left"):
        logits_of(model, **right)
    with pytest.raises(winnow.UnsupportedError, match="the mask is not causal attention"):
        logits_of(model, input_ids=prompt(64), attention_mask=torch.zeros(1, 1, 64, 64, dtype=torch.float16))
    winnow.hf.register("infllm_v2")
    with pytest.raises(winnow.InvalidError, match="call register"):
        logits_of(model, input_ids=prompt(64))
    model.config.sparse_config = dict(use_nope=True)
    with pytest.raises(winnow.UnsupportedError, match="set it to false"):
        logits_of(model, input_ids=prompt(64))
    del model.config.sparse_config
