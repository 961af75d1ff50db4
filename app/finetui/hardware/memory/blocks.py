"""The decoder layers of a model: their linear layers, experts and norms, and the widths that activations have."""

from __future__ import annotations

from dataclasses import dataclass, replace

from finetui.hardware.memory.family import Family


@dataclass(frozen=True)
class Linear:
    """Equal linear layers; `weights` is what quantisation packs and LoRA stands beside."""

    name: str
    out: int
    inp: int
    bias: bool = False
    count: int = 1

    @property
    def weights(self) -> int:
        """Weights of all of them, biases apart."""
        return self.out * self.inp * self.count

    @property
    def biases(self) -> int:
        """Biases of all of them."""
        return self.out * self.bias * self.count


@dataclass(frozen=True)
class Block:
    """One decoder layer."""

    linears: tuple[Linear, ...] = ()
    experts: int = 0
    """Weights of the routed experts, biases included."""
    active_experts: int = 0
    """Those that one token meets."""
    others: int = 0
    """Weights of norms, routers, convolutions and the like."""
    attention: str = "full_attention"
    """full_attention, sliding_attention or linear_attention."""
    window: int = 0
    """Tokens that sliding attention sees; 0 for all."""
    query: int = 0
    """Features of the queries of one token, over all heads."""
    key: int = 0
    """Features of its keys."""
    value: int = 0
    """Features of its values."""
    heads: int = 0
    """Heads of the queries."""
    inner: int = 0
    """Features inside the MLP for one token: over the experts that it meets, and the shared one."""
    gated: bool = True
    inner_copies: int = 3
    """How many tensors as wide as `inner` the activation keeps."""
    chosen: int = 0
    """Experts that one token meets."""
    norms: int = 2
    """Normalisations as wide as the model."""
    head_norms: int = 0
    """Features of queries and keys that are normalised head by head or together."""


def blocks(family: Family) -> list[Block]:
    """Every decoder layer of a model, in order.

    Raises UnusableConfig where the configuration lacks a size.
    """
    kinds = family.layer_types()
    return [_block(family, layer, kind) for layer, kind in enumerate(kinds)]


def _block(family: Family, layer: int, kind: str) -> Block:
    hidden = family.number("hidden_size")
    norms = int(family.traits.get("norms", 2))
    attention = str(family.traits.get("attention", "plain"))
    if kind == "linear_attention":
        block = _delta_net(family)
    elif attention == "mla":
        block = _latent_attention(family)
    else:
        block = _attention(family, layer, kind, attention)
    block = replace(
        block,
        attention=kind,
        window=family.number("sliding_window", 0) if kind == "sliding_attention" else 0,
        norms=norms,
        gated=bool(family.traits.get("gated", True)),
        inner_copies=_inner_copies(family),
        others=block.others + norms * hidden * (2 if family.traits.get("norm_bias") else 1),
    )
    if attention == "gemma4":
        return _gemma4_feed_forward(family, layer, block)
    return _experts(family, block) if _has_experts(family, layer) else _dense(family, block)


def _inner_copies(family: Family) -> int:
    """Gated: in, out and the factor beside it; more where transformers spells the activation out step by step."""
    if family.traits.get("moe") == "bias":
        return 5
    act = family.values.get("hidden_activation") or family.values.get("hidden_act")
    steps = 3 if act in ("gelu_new", "gelu_fast", "gelu_accurate", "quick_gelu") else 0
    return steps + (3 if family.traits.get("gated", True) else 1)


def _attention(family: Family, layer: int, kind: str, attention: str) -> Block:
    hidden, heads, kv_heads, size = (
        family.number("hidden_size"),
        family.number("num_attention_heads"),
        family.kv_heads,
        family.head_dim,
    )
    shares = values_are_keys = False
    if attention == "gemma4":
        first_shared = family.number("num_hidden_layers") - family.number("num_kv_shared_layers", 0)
        shares = layer >= first_shared
        values_are_keys = kind == "full_attention" and family.flag("attention_k_eq_v")
        size, kv_heads = family.own_heads(layer, kind == "full_attention")
    bias, out_bias = family.trait("qkv_bias"), family.trait("out_bias")
    query, key = heads * size, kv_heads * size
    asked = query * (2 if attention == "gated" else 1)  # the other half gates what attention gives
    if fused := family.name("qkv", ""):
        linears = [Linear(fused, query + 2 * key, hidden, bias)]
    else:
        linears = [Linear("q_proj", asked, hidden, bias)]
        if not shares:
            linears.append(Linear("k_proj", key, hidden, bias))
            linears += [] if values_are_keys else [Linear("v_proj", key, hidden, bias)]
    linears.append(Linear(family.name("o", "o_proj"), hidden, query, out_bias))
    others = heads if family.traits.get("sinks") else 0
    qk_norm, head_norms = family.traits.get("qk_norm", ""), 0
    if qk_norm in ("all", "head") or (qk_norm and family.flag(str(qk_norm))):
        head_norms = query + key
        others += head_norms if qk_norm == "all" else size * (1 if shares else 2)
    return Block(tuple(linears), others=others, query=query, key=key, value=key, heads=heads, head_norms=head_norms)


def _latent_attention(family: Family) -> Block:
    """DeepSeek's attention, with queries, keys and values through narrow layers."""
    hidden, heads = family.number("hidden_size"), family.number("num_attention_heads")
    rope, plain = family.number("qk_rope_head_dim"), family.number("qk_nope_head_dim")
    value, narrow = family.number("v_head_dim"), family.number("kv_lora_rank")
    query_rank = family.number("q_lora_rank", 0)
    bias = family.flag("attention_bias")
    query = heads * (rope + plain)
    linears = [Linear("q_proj", query, hidden)]
    if query_rank:
        linears = [Linear("q_a_proj", query_rank, hidden, bias), Linear("q_b_proj", query, query_rank)]
    linears += [
        Linear("kv_a_proj_with_mqa", narrow + rope, hidden, bias),
        Linear("kv_b_proj", heads * (plain + value), narrow),
        Linear("o_proj", hidden, heads * value, bias),
    ]
    norms = query_rank + narrow
    return Block(tuple(linears), others=norms, query=query, key=query, value=heads * value, heads=heads)


def _delta_net(family: Family) -> Block:
    """Qwen's linear attention: a gated delta rule behind a short convolution."""
    hidden, heads = family.number("hidden_size"), family.number("linear_num_value_heads", 32)
    key = family.number("linear_num_key_heads", 16) * family.number("linear_key_head_dim", 128)
    value_dim = family.number("linear_value_head_dim", 128)
    value = heads * value_dim
    if fused := family.name("linear", ""):
        made = [Linear(fused, 2 * key + 2 * value, hidden), Linear(family.name("linear_gates", ""), 2 * heads, hidden)]
    else:
        made = [
            Linear("in_proj_qkv", 2 * key + value, hidden),
            Linear("in_proj_z", value, hidden),
            Linear("in_proj_b", heads, hidden),
            Linear("in_proj_a", heads, hidden),
        ]
    made.append(Linear("out_proj", hidden, value))
    convolution = (2 * key + value) * family.number("linear_conv_kernel_dim", 4)
    others = convolution + 2 * heads + value_dim
    return Block(tuple(made), others=others, query=key, key=key, value=value, heads=heads)


def _mlp(family: Family, inner: int, name: str = "") -> tuple[Linear, ...]:
    hidden, bias = family.number("hidden_size"), family.trait("mlp_bias")
    down = Linear(family.name("down", "down_proj"), hidden, inner, bias)
    if not family.traits.get("gated", True):
        return (Linear(family.name("up", "up_proj"), inner, hidden, bias), down)
    if fused := family.name("gate_up", ""):
        return (Linear(fused, 2 * inner, hidden, bias), down)
    gate, up = family.name("gate", "gate_proj"), family.name("up", "up_proj")
    return (Linear(gate, inner, hidden, bias), Linear(up, inner, hidden, bias), down)


def _dense(family: Family, block: Block) -> Block:
    inner = family.number("intermediate_size")
    inner = inner // 2 if family.traits.get("halved") else inner
    return replace(block, linears=block.linears + _mlp(family, inner), inner=inner)


def _has_experts(family: Family, layer: int) -> bool:
    if not family.number("num_experts", 0):
        return False
    dense = family.values.get("mlp_only_layers") or ()
    every = family.number("decoder_sparse_step", family.number("moe_layer_freq", 1))
    return layer >= family.number("first_k_dense_replace", 0) and layer not in dense and (layer + 1) % every == 0


def _experts(family: Family, block: Block) -> Block:
    hidden, count, chosen = (
        family.number("hidden_size"),
        family.number("num_experts"),
        family.number("num_experts_per_tok"),
    )
    inner = family.number("moe_intermediate_size", family.number("intermediate_size", 0))
    style = family.traits.get("moe", "")
    one = 3 * hidden * inner + (2 * inner + hidden if style == "bias" else 0)
    shared = family.number("shared_expert_intermediate_size", inner * family.number("n_shared_experts", 0))
    linears = _mlp(family, shared) if shared else ()
    linears += (Linear("shared_expert_gate", 1, hidden),) if style == "shared-gate" else ()
    return replace(
        block,
        linears=block.linears + linears,
        experts=count * one,
        active_experts=chosen * one,
        others=block.others + count * hidden + (count if style == "bias" else 0),
        inner=chosen * inner + shared,
        chosen=chosen,
    )


def _gemma4_feed_forward(family: Family, layer: int, block: Block) -> Block:
    """Gemma 4: a dense MLP in every layer, twice as wide where keys are shared; experts and a side input beside it."""
    hidden, inner = family.number("hidden_size"), family.number("intermediate_size")
    first_shared = family.number("num_hidden_layers") - family.number("num_kv_shared_layers", 0)
    if family.flag("use_double_wide_mlp") and layer >= first_shared > 0:
        inner *= 2
    linears, others = block.linears + _mlp(family, inner), block.others
    if side := family.number("hidden_size_per_layer_input", 0):
        linears += (Linear("per_layer_input_gate", side, hidden), Linear("per_layer_projection", hidden, side))
        others += hidden
    experts = active = chosen = 0
    if family.flag("enable_moe_block"):
        count, chosen = family.number("num_experts"), family.number("num_experts_per_tok")
        one = 3 * hidden * family.number("moe_intermediate_size")
        experts, active = count * one, chosen * one
        linears += (Linear("proj", count, hidden),)
        others += 4 * hidden + count
        inner += chosen * family.number("moe_intermediate_size")
    return replace(
        block, linears=linears, experts=experts, active_experts=active, others=others, inner=inner, chosen=chosen
    )
