"""What an instance needs by its model's file: read, estimated, used where `ram_gb` is left out, else warned about."""

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from cluster import ROOT, cpu

from fleet.artifacts import tiny_model
from placement import BadInput, Instance, load_experiment, place
from placement.adapters import gguf_memory
from placement.adapters.gguf_memory import GB, MIB, BrokenModel, UnknownModel

MATRIX = 64 * 64 // 32 * 18  # bytes in Q4_0: 18 for 32 weights


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    tiny_model.ensure(path)
    return path


def model(
    path: Path,
    architecture: str = "llama",
    kind: str = "Q4_0",
    tied: bool = False,
    tensors_in_a_file: int = 0,
    **fields: int | str | list[int],
) -> Path:
    """A GGUF of matrices of 64 x 64: the embedding, one in a block, and the output unless the embedding is that too."""
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=tensors_in_a_file)
    known = {"block_count": 4, "embedding_length": 64, "feed_forward_length": 128, "attention.head_count": 4}
    for key, value in {**known, **fields}.items():
        add = {list: writer.add_array, str: writer.add_string, int: writer.add_uint32}[type(value)]
        add(key if "." in key and not key.startswith("attention") else f"{architecture}.{key}", value)
    writer.add_token_list(["a", "b", "c"])
    kinds = gguf.GGMLQuantizationType[kind]
    for name in ("token_embd.weight", "blk.0.ffn_up.weight", "output.weight")[: 3 - tied]:
        writer.add_tensor(name, gguf.quants.quantize(np.ones((64, 64), np.float32), kinds), raw_dtype=kinds)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def experiment(folder: Path, *instances: str):
    path = folder / "x.yml"
    path.write_text("name: x\ninstances:\n" + "".join(f"  - {instance}\n" for instance in instances))
    return load_experiment(path)


def sizes(ram_gb: float, gpu_memory_gb: float) -> dict[str, float]:
    return {"ram_gb": ram_gb, "gpu_memory_gb": gpu_memory_gb}


def test_the_parts_are_those_of_the_formula(tmp_path: Path):
    read = gguf_memory.read(model(tmp_path / "m.gguf"))
    needs = gguf_memory.estimate(read, 1000)
    assert needs.parts == {
        "weights": MATRIX,  # the embedding is only looked up; what is copied lies behind it, and is unmapped
        "repack_copy": 2 * MATRIX,
        "kv": 4 * 4 * (16 + 16) * 2 * 1024,  # layers x KV heads x (key + value) x F16 x context in steps of 256
        "compute": 512 * (16 * 128 + 4 * 64 + 2 * 1024),
        "base": 15 * MIB + 3 * 200 + 1024 * 512,
        "workload": gguf_memory.WORKLOAD,
    }
    assert needs.total == sum(needs.parts.values())
    assert needs.offloaded == needs.kv + needs.compute + 2 * MATRIX
    assert needs.ram_gb == 0.1


def test_what_is_not_repacked_stays_mapped(tmp_path: Path):
    read = gguf_memory.read(model(tmp_path / "m.gguf"))
    for needs in (gguf_memory.estimate(read, 256, on_gpu=True), gguf_memory.estimate(read, 256, repacked=("Q8_0",))):
        assert (needs.weights, needs.repack_copy) == (3 * MATRIX, 0)


def test_an_embedding_that_is_the_output_too_is_mapped_and_copied(tmp_path: Path):
    needs = gguf_memory.estimate(gguf_memory.read(model(tmp_path / "m.gguf", tied=True)), 256)
    assert (needs.weights, needs.repack_copy) == (MATRIX, 2 * MATRIX)


@pytest.mark.parametrize(
    ("fields", "kv_heads", "key_and_value"),
    [
        ({"attention.head_count_kv": 2}, 4 * 2, 32),
        ({"attention.head_count_kv": [4, 0, 1, 0]}, 5, 32),  # layers of several kinds
        ({"attention.key_length": 128, "attention.value_length": 8}, 4 * 4, 136),
    ],
)
def test_the_kv_cache_is_as_large_as_the_models_heads(
    tmp_path: Path, fields: dict[str, int | list[int]], kv_heads: int, key_and_value: int
):
    needs = gguf_memory.estimate(gguf_memory.read(model(tmp_path / "m.gguf", **fields)), 256)
    assert needs.kv == kv_heads * key_and_value * 2 * 256


def test_the_reader_finds_what_ggufs_own_does(tiny: Path):
    header, theirs = gguf_memory.read(tiny), gguf.GGUFReader(tiny)
    assert [(t.name, t.size) for t in header.tensors] == [(t.name, int(t.n_bytes)) for t in theirs.tensors]
    assert header.fields["tokenizer.ggml.tokens"] == len(theirs.fields["tokenizer.ggml.tokens"].data)
    assert header.fields["llama.block_count"] == theirs.fields["llama.block_count"].contents()


@pytest.mark.parametrize("part", [0.0, 0.00003, 0.0005, 0.01, 0.3, 0.999])
def test_a_truncated_model_is_refused_by_name(tiny: Path, tmp_path: Path, part: float):
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny.read_bytes()[: int(tiny.stat().st_size * part)])
    with pytest.raises(BrokenModel, match=r"cut\.gguf: (not a whole GGUF file: .*fetch it again|cannot be read)"):
        gguf_memory.read(cut)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<html>" + bytes(100), "does not begin with GGUF"),
        (b"GGUF" + bytes(100), "its version is 0"),
        (b"GGUF\x00\x00\x00\x03" + bytes(100), "its version is 50331648"),  # big-endian
        (b"GGUF\x03\0\0\0" + b"\xff" * 16 + bytes(10**6), "ends within its header"),
        (b"GGUF\x03\0\0\0" + bytes(8) + b"\x01" + bytes(7) + bytes(8) + b"\x63\0\0\0", "type 99"),
    ],
)
def test_what_is_no_gguf_is_refused_with_what_is_wrong(tmp_path: Path, content: bytes, problem: str):
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(BrokenModel, match=rf"bad\.gguf: .*{problem}"):
        gguf_memory.read(path)


def test_a_model_in_several_files_needs_what_it_needs_in_one(tmp_path: Path):
    whole = gguf_memory.read(model(tmp_path / "m.gguf"))
    model(tmp_path / "p.gguf", tensors_in_a_file=1)
    first = tmp_path / "p-00001-of-00003.gguf"
    parts = gguf_memory.read(first)
    assert [(one.name, one.size, one.part) for one in parts.tensors] == [
        (one.name, one.size, part) for part, one in enumerate(whole.tensors)
    ]
    for kinds in (("Q4_0",), ()):
        assert gguf_memory.estimate(parts, 256, repacked=kinds) == gguf_memory.estimate(whole, 256, repacked=kinds)


def test_a_part_that_is_missing_or_named_otherwise_is_told(tmp_path: Path):
    model(tmp_path / "p.gguf", tensors_in_a_file=1)
    first, second = tmp_path / "p-00001-of-00003.gguf", tmp_path / "p-00002-of-00003.gguf"
    with pytest.raises(BrokenModel, match=r"one of 3 parts; give the first, with a name that ends in -00001-of-00003"):
        gguf_memory.read(second)
    second.unlink()
    with pytest.raises(BrokenModel, match=r"p-00002-of-00003\.gguf: cannot be read"):
        gguf_memory.read(first)
    with pytest.raises(BrokenModel, match="one of 3 parts"):
        gguf_memory.read(first.rename(tmp_path / "one.gguf"))


def test_an_architecture_that_does_not_say_what_it_needs_is_unknown(tmp_path: Path):
    path = model(tmp_path / "m.gguf", "falcon")
    path.write_bytes(path.read_bytes().replace(b"falcon.attention.head_count", b"falcon.attention.head_kount"))
    with pytest.raises(UnknownModel, match=r"no falcon\.attention\.head_count"):
        gguf_memory.estimate(gguf_memory.read(path), 256)
    stated = experiment(tmp_path, "{id: a, ram_gb: 1}", "{id: b}")
    found, faults, warnings = gguf_memory.estimate_all(stated, {"a": path, "b": path})
    assert found == {}
    assert [fault.key for fault in faults] == ["instances.b.ram_gb"]
    assert warnings[0].startswith("instances.a.ram_gb: not checked against the model; ")


@pytest.mark.parametrize(
    ("architecture", "fields", "what"),
    [
        ("clip", {}, "it is a projector, which lets a model see or hear"),
        ("llama", {"general.type": "adapter"}, "it is an adapter, which changes a model"),
        ("qwen2vl", {"general.type": "mmproj"}, "it is a projector"),
        ("bert", {}, "it is an embedding model, which generates no text"),
        ("qwen3", {"pooling_type": 3}, "it is an embedding model"),
        ("llada", {}, "it is a diffusion model"),
        ("llama", {"block_count": 513}, "it says that it has 513 layers"),
    ],
)
def test_what_is_no_language_model_is_refused_as_what_it_is(
    tmp_path: Path, architecture: str, fields: dict[str, int | str], what: str
):
    path = model(tmp_path / "m.gguf", architecture, **fields)
    stated = experiment(tmp_path, "{id: a, ram_gb: 2}")
    _, faults, _ = gguf_memory.estimate_all(stated, {"a": path})
    assert len(faults) == 1
    assert f"{path}: {what}" in str(faults[0])


def test_a_mixture_computes_with_some_of_its_experts(tmp_path: Path):
    fields = {"expert_feed_forward_length": 32, "expert_used_count": 6, "expert_shared_feed_forward_length": 16}
    path = model(tmp_path / "m.gguf", "qwen3next", **fields)
    assert gguf_memory.estimate(gguf_memory.read(path), 256).compute == 512 * (16 * 208 + 4 * 64 + 2 * 256)
    path.write_bytes(path.read_bytes().replace(b"qwen3next.feed_forward_length", b"qwen3next.feed_forvard_length"))
    assert gguf_memory.estimate(gguf_memory.read(path), 256).compute == 512 * (16 * 208 + 4 * 64 + 2 * 256)


def test_no_mind_gets_a_longer_context_than_its_model_was_trained_for(tmp_path: Path):
    stated = experiment(tmp_path, "{id: a, ram_gb: 1, context_size: 4096}", "{id: b, ram_gb: 1, context_size: 256}")
    path = model(tmp_path / "m.gguf", context_length=512)
    found, faults, warnings = gguf_memory.estimate_all(stated, dict.fromkeys("ab", path))
    assert not faults
    assert warnings == [
        "instances.a.context_size: 4096 tokens, but its model was trained for 512, and gets no more",
    ]
    assert found["a"].kv == 2 * found["b"].kv
    sized = stated.sized({id: needs.to_json() for id, needs in found.items()})
    assert [one.context_size for one in sized.instances] == [512, 256]


def test_a_cache_of_another_type_and_attention_in_full_count(tmp_path: Path):
    header = gguf_memory.read(model(tmp_path / "m.gguf", embedding_length=512))  # heads of 128
    plain = gguf_memory.estimate(header, 1024)
    q8 = gguf_memory.estimate(header, 1024, llama={"cache_type_k": "q8_0", "cache_type_v": "q8_0"})
    assert q8.kv == plain.kv * 34 / 64
    in_full = gguf_memory.estimate(header, 1024, llama={"flash_attn": False})
    assert in_full.compute - plain.compute == 512 * 1024 * 4 * 4
    assert gguf_memory.estimate(header, 1024, llama={"flash_attn": True}) == plain


@pytest.mark.parametrize(
    ("llama", "fault"),
    [
        (
            "{cache_type_k: q8_0}",
            "instances.a.llama.cache_type_k: q8_0 has blocks of 32 numbers, and the model's heads have 16; give f16",
        ),
        (
            "{cache_type_v: q4_0, flash_attn: false}",
            "instances.a.llama.cache_type_v: q4_0 needs flash attention; leave flash_attn out, or give f16",
        ),
    ],
)
def test_a_cache_that_llama_server_would_not_start_with_is_refused(tmp_path: Path, llama: str, fault: str):
    stated = experiment(tmp_path, f"{{id: a, ram_gb: 1, llama: {llama}}}")
    _, faults, _ = gguf_memory.estimate_all(stated, {"a": model(tmp_path / "m.gguf")})
    assert [str(one) for one in faults] == [f"{stated.path}: {fault}"]


@pytest.mark.parametrize(
    "llama", ["{cache_type_k: f17}", "{threads: 3}", "{flash_attn: maybe}", "[1]", "{cache_type_k: '--help'}"]
)
def test_other_settings_of_llama_server_are_refused(tmp_path: Path, llama: str):
    with pytest.raises(BadInput, match=r"instances\.a\.llama"):
        experiment(tmp_path, f"{{id: a, ram_gb: 1, llama: {llama}}}")


def test_an_embedding_that_is_the_output_too_lies_on_the_gpu_a_second_time(tmp_path: Path):
    needs = gguf_memory.estimate(gguf_memory.read(model(tmp_path / "m.gguf", tied=True)), 256, on_gpu=True)
    assert needs.offloaded == needs.kv + needs.compute + 2 * MATRIX


def test_a_broken_model_is_one_fault_for_all_who_use_it(tmp_path: Path):
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF")
    _, faults, _ = gguf_memory.estimate_all(
        experiment(tmp_path, "{id: a, ram_gb: 1}", "{id: b}"), {"a": path, "b": path}
    )
    assert len(faults) == 1


def test_a_declared_size_below_the_estimate_is_reported_with_the_parts(tmp_path: Path, tiny: Path):
    stated = experiment(tmp_path, "{id: a, ram_gb: 0.02}", "{id: b, ram_gb: 0.5}")
    _, faults, warnings = gguf_memory.estimate_all(stated, {"a": tiny, "b": tiny})
    assert (faults, warnings) == (
        [],
        [
            "instances.a.ram_gb: 0.02 declared, but the model and its context of 4096 tokens need about 0.05 GB"
            " (weights 0.00, repack copy 0.00, kv 0.00, compute 0.01, base 0.02, workload 0.02);"
            " it may be killed for memory"
        ],
    )


def needed(total: float, offloaded: float) -> gguf_memory.Estimate:
    """An estimate of so many GB."""
    return gguf_memory.Estimate(int(total * GB), 0, 0, 0, 0, 0, int(offloaded * GB))


@pytest.mark.parametrize(
    ("declared", "short"),
    [
        ({"ram_gb": 8, "gpu": "required", "gpu_memory_gb": 8}, []),
        ({"ram_gb": 1, "gpu": "required", "gpu_memory_gb": 8}, []),
        ({"ram_gb": 0.4, "gpu": "required", "gpu_memory_gb": 8}, ["ram_gb"]),
        ({"ram_gb": 8, "gpu": "required", "gpu_memory_gb": 7}, ["gpu_memory_gb"]),
        ({"ram_gb": 7.9, "gpu": "required"}, ["ram_gb"]),
        ({"ram_gb": 1, "gpu": "preferred", "gpu_memory_gb": 8}, ["ram_gb"]),  # it may get a node without a GPU
    ],
)
def test_what_a_gpu_holds_is_not_asked_of_ram_as_well(declared: dict[str, float | str], short: list[str]):
    lines = gguf_memory.shortfalls(Instance(id="a", **declared), needed(8, 7.5))
    assert [line.split(":")[0].split(".")[2] for line in lines] == short


@pytest.mark.parametrize(
    ("instance", "ram_gb", "gpu_memory_gb"),
    [
        ("{id: a}", 5.4, 0),
        ("{id: a, ram_gb: 2}", 2, 0),
        ("{id: a, gpu: preferred}", 5.4, 4.6),
        ("{id: a, gpu: required, gpu_memory_gb: 3}", 5.4, 3),
        ("{id: a, gpu: required, gpu_memory_gb: 0}", 5.4, 0),
        ("{id: a, gpu: required, ram_gb: 2}", 2, 0),
    ],
)
def test_what_is_left_out_is_filled_in_and_what_is_given_stays(
    tmp_path: Path, instance: str, ram_gb: float, gpu_memory_gb: float
):
    (a,) = experiment(tmp_path, instance).sized({"a": sizes(5.4, 4.6)}).instances
    assert (a.ram_gb, a.gpu_memory_gb) == (ram_gb, gpu_memory_gb)


def test_without_a_size_and_a_model_each_instance_is_named(tmp_path: Path):
    with pytest.raises(BadInput) as bad:
        experiment(tmp_path, "{id: a}", "{id: b, ram_gb: 1}", "{id: c}").sized({})
    assert [fault.key for fault in bad.value.faults] == ["instances.a.ram_gb", "instances.c.ram_gb"]
    assert bad.value.faults[0].problem.startswith("missing; give it in GB (2**30 bytes), or a model")


def test_nothing_is_placed_without_a_size():
    with pytest.raises(BadInput, match=r"instances: a\.ram_gb: not known"):
        place([cpu()], [Instance(id="a")])


def test_a_template_of_the_caches_folder_is_known_in_the_default_model(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("JARFLEET_CACHE", str(tiny.parent))
    variables = {
        "default_model": {"path": "{{ jarfleet_cache }}/tiny.gguf"},
        "jarfleet_cache": "{{ lookup('env', 'X') }}",
    }
    stated = experiment(tmp_path, "{id: a}", "{id: b, model: {path: /nowhere.gguf}}")
    assert gguf_memory.local_models(stated, {"rpi1": variables}) == {"a": tiny}


def test_only_the_builds_of_this_cluster_decide_what_is_repacked():
    builds = {"x": {"repacks": ["Q4_0"]}, "y": {"repacks": ["Q8_0"]}, "z": {}}
    variables = {"llama_cpp_builds": builds}
    assert gguf_memory.repacked_types({"a": {**variables, "llama_cpp_build": "x"}}) == ("Q4_0",)
    both = {"a": {**variables, "llama_cpp_build": "x"}, "b": {**variables, "llama_cpp_build": "y"}}
    assert gguf_memory.repacked_types(both) == ("Q4_0", "Q8_0")
    assert set(gguf_memory.repacked_types({"a": {**variables, "llama_cpp_build": "z"}})) == set(gguf_memory.REPACKED)


def plan(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "placement", "plan", "-i", "inventory/lab", "-e", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_command_line_uses_a_model_that_is_here_and_names_one_that_is_not(tmp_path: Path, tiny: Path):
    here, gone = tmp_path / "here.yml", tmp_path / "gone.yml"
    here.write_text(f"name: x\nmodel: {{path: {tiny}}}\ninstances: [{{id: a}}, {{id: b, ram_gb: 0.02}}]")
    done = plan(here)
    assert done.returncode == 0
    assert done.stderr.splitlines()[0].startswith("warning: instances.b.ram_gb: 0.02 declared, but")
    assert done.stderr.splitlines()[1].startswith("instances.a.ram_gb: left out, 0.1 by its model: 0.05 GB (weights")
    gone.write_text("name: x\nmodel: {path: /nowhere.gguf}\ninstances: [{id: a}]")
    done = plan(gone)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{gone}: instances.a.ram_gb: missing; give it in GB")
