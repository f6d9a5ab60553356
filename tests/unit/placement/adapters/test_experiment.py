"""Experiment files: what is accepted, and that everything wrong is named at once, with file, key and advice."""

import pytest
from cluster import cpu

from placement import BadInput, Instance, check, find_experiment, load_experiment, parse_pins
from placement.adapters.experiment import Restart


def load(tmp_path, text, name="x.yml"):
    path = tmp_path / name
    path.write_text(text)
    return load_experiment(path)


def faults(tmp_path, text, name="x.yml"):
    """Each fault of a file as text, without the folder."""
    with pytest.raises(BadInput) as bad:
        load(tmp_path, text, name)
    return [str(fault).replace(f"{tmp_path}/", "") for fault in bad.value.faults]


def instance_faults(tmp_path, *instances):
    return faults(tmp_path, "name: x\ninstances:\n" + "".join(f"  - {instance}\n" for instance in instances))


def test_the_smallest_experiment_file_has_defaults_for_all_else(tmp_path):
    experiment = load(tmp_path, "name: x\ninstances: [{id: a, ram_gb: 2}]")
    assert experiment.instances == [Instance(id="a", ram_gb=2.0)]
    assert (experiment.name, experiment.description, experiment.model) == ("x", "", None)
    assert (experiment.workload, experiment.command) == ({}, ())
    a = experiment.instances[0]
    assert (a.gpu, a.network, a.context_size, a.cpu_cores, a.seed, a.config) == (
        "none",
        "isolated",
        4096,
        None,
        None,
        {},
    )


def test_every_key_arrives(tmp_path):
    experiment = load(
        tmp_path,
        """
name: x
description: all of it
model: {path: ~/m.gguf}
workload: {mode: conversation, since: 2024-01-01, deep: {er: [1, null]}}
command: [python3, -m, mine]
instances:
  - {id: a, ram_gb: 2.5, gpu: required, gpu_memory_gb: 2, preferred_node: jetson, affinity: [b], network: peers,
     config: {identity: me}, context_size: 512, cpu_cores: 1.5, seed: 7}
  - {id: b, ram_gb: 1, anti_affinity: [c], model: {url: "https://h/m.gguf", sha256: "%s"}}
  - {id: c, ram_gb: 1}
"""
        % ("0" * 64),
    )
    a, b, _ = experiment.instances
    assert experiment.command == ("python3", "-m", "mine")
    assert experiment.workload == {"mode": "conversation", "since": "2024-01-01", "deep": {"er": [1, None]}}
    assert (a.affinity, a.config, a.context_size, a.cpu_cores, a.seed) == (("b",), {"identity": "me"}, 512, 1.5, 7)
    assert b.model == {"url": "https://h/m.gguf", "sha256": "0" * 64}


def test_json_is_read_as_well(tmp_path):
    experiment = load(tmp_path, '{"name": "x",\n\t"instances": [{"id": "a", "ram_gb": 2}]}', "x.json")
    assert [instance.id for instance in experiment.instances] == ["a"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("x.json", '{"name": "x", "instances": [{"id": "a"}]}'), ("x.yml", "name: x\ninstances: [{id: a}]")],
)
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path, name, text):
    assert load(tmp_path, "\ufeff" + text, name).raw == load(tmp_path, text, f"plain_{name}").raw


def test_merge_keys_are_yaml_and_stay_so(tmp_path):
    text = "name: x\ninstances:\n  - &a {id: a, ram_gb: 2}\n  - {<<: *a, id: b}"
    assert [(i.id, i.ram_gb) for i in load(tmp_path, text).instances] == [("a", 2), ("b", 2)]


def test_everything_wrong_is_named_at_once(tmp_path):
    found = faults(
        tmp_path,
        """
nme: x
instances:
  - {id: a, ram_gb: -5, affinity: [zz], preferred_node: ""}
  - {id: a, ram_gb: .nan}
  - {id: b, gpu: maybe, ramgb: 2}
  - {id: no, ram_gb: "8"}
""",
    )
    assert sorted(fault.split(": ")[1] for fault in found) == sorted(
        [
            "name",
            "nme",
            "instances.a",
            "instances.a.affinity",
            "instances.a.preferred_node",
            "instances.a.ram_gb",
            "instances.a.ram_gb",
            "instances.b.gpu",
            "instances.b.ramgb",
            "instances[3].id",
            "instances[3].ram_gb",
        ]
    )
    assert all(fault.startswith("x.yml: ") for fault in found)


@pytest.mark.parametrize(
    ("instance", "fault"),
    [
        ("{ram_gb: 2}", "instances[0].id: missing; give the instance's id: letters, digits and _ are allowed"),
        (
            "{id: a-1, ram_gb: 2}",
            "instances[0].id: 'a-1' does not have the right form; give the instance's id: letters",
        ),
        ('{id: "a\\n", ram_gb: 2}', "instances[0].id: 'a\\n' does not have the right form"),
        ("{id: no, ram_gb: 2}", "instances[0].id: False is not text"),
        ("{id: a, ram_gb: -5}", "instances.a.ram_gb: -5 is not above 0; give the instance's RAM in GB (2**30 bytes)"),
        ("{id: a, ram_gb: 0}", "instances.a.ram_gb: 0 is not above 0"),
        ("{id: a, ram_gb: .nan}", "instances.a.ram_gb: nan is not a finite number"),
        ("{id: a, ram_gb: .inf}", "instances.a.ram_gb: inf is not a finite number"),
        ("{id: a, ram_gb: 1000001}", "instances.a.ram_gb: 1000001 is above 1000000"),
        ("{id: a, ram_gb: true}", "instances.a.ram_gb: True is not a number"),
        ("{id: a, ram_gb: '{{ x }}'}", "instances.a.ram_gb: '{{ x }}' is a template that nothing has resolved"),
        (
            "{id: a, ram_gb: 2, gpu: maybe}",
            "instances.a.gpu: 'maybe' is none of these; give one of required, preferred",
        ),
        ("{id: a, ram_gb: 2, gpu: required, gpu_memory_gb: -1}", "instances.a.gpu_memory_gb: -1 is below 0"),
        ("{id: a, ram_gb: 2, gpu_memory_gb: 1}", "instances.a.gpu_memory_gb: given, but the instance uses no GPU"),
        ("{id: a, ram_gb: 2, ram: 1}", "instances.a.ram: no key is named 'ram'; did you mean 'ram_gb'?"),
        ("{id: a, ram_gb: 2, network: lan}", "instances.a.network: 'lan' is none of these"),
        ("{id: a, ram_gb: 2, config: [1]}", "instances.a.config: [1] is not an object"),
        ("{id: a, ram_gb: 2, context_size: 255}", "instances.a.context_size: 255 is below 256"),
        ("{id: a, ram_gb: 2, context_size: 2097152}", "instances.a.context_size: 2097152 is above 1048576"),
        ("{id: a, ram_gb: 2, cpu_cores: 0}", "instances.a.cpu_cores: 0 is not above 0"),
        ("{id: a, ram_gb: 2, seed: 1.5}", "instances.a.seed: 1.5 is not"),
        ("{id: a, ram_gb: 2, model: {url: 'https://h/m'}}", "instances.a.model: {'url': 'https://h/m'} does not have"),
        ("{id: a, ram_gb: 2, affinity: a}", "instances.a.affinity: 'a' is not a list"),
        ("{id: a, ram_gb: 2, affinity: [a]}", "instances.a.affinity: names the instance itself"),
        ("{id: a, ram_gb: 2, anti_affinity: [b]}", "instances.a.anti_affinity: no instance is named 'b'; there is a"),
        ("{id: a, ram_gb: 2, observes: a}", "instances.a.observes: 'a' is not a list"),
        ("{id: a, ram_gb: 2, observes: [a]}", "instances.a.observes: names the instance itself"),
        ("{id: a, ram_gb: 2, observes: [b]}", "instances.a.observes: no instance is named 'b'; there is a"),
        ("{id: a, ram_gb: 2, ram_gb: 3}", "ram_gb: line 3: this key is given twice, first in line 3; keep one"),
        ("just text", "instances[0]: 'just text' is not an object"),
    ],
)
def test_each_fault_of_an_instance_is_reported(tmp_path, instance, fault):
    found = instance_faults(tmp_path, instance)
    assert len(found) == 1
    assert found[0].startswith(f"x.yml: {fault}")


def test_environment_restart_and_results_arrive(tmp_path):
    text = """
name: x
environment: {A: "1", B: "2"}
restart: {policy: never, limit: 3, within_seconds: 600}
results: ["out/**", notes.md]
instances: [{id: a, environment: {B: "3"}}, {id: b}]
"""
    experiment = load(tmp_path, text)
    assert experiment.environment == {"A": "1", "B": "2"}
    assert [one.environment for one in experiment.instances] == [{"B": "3"}, {}]
    assert experiment.restart == Restart("never", 3, 600)
    assert experiment.results == ("out/**", "notes.md")
    assert load(tmp_path, "name: x\ninstances: [{id: a}]").restart == Restart("on-failure", 10, 60)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("environment: {1A: x}", "environment.1A: not a variable's name; give letters, digits and _, no digit first"),
        ("environment: {A: 1}", "environment.A: 1 is not text; give text, in quotes if need be"),
        ("environment: {PYTHONPATH: x}", "environment.PYTHONPATH: set by Jarfleet itself; leave it out"),
        ("environment: {JARFLEET_INSTANCE: x}", "environment.JARFLEET_INSTANCE: set by Jarfleet itself; leave it out"),
        ('environment: {A: "\\0"}', "environment.A: has a null character, which no variable can hold; leave it out"),
        ("restart: {policy: always}", "restart.policy: 'always' is none of these; give one of on-failure, never"),
        ("restart: {limit: 20}", "restart.limit: 20 starts and one more take "),
        ("restart: {within_seconds: 20}", "restart.limit: 10 starts and one more take up to 47 s, so there"),
        ("restart: {limit: 0}", "restart.limit: 0 is below 1; give how many starts there may be within that time"),
        ("results: [/etc/passwd]", "results[0]: '/etc/passwd' "),
        ("results: [a/../../b]", "results[0]: 'a/../../b' "),
        ("results: [..]", "results[0]: '..' "),
        ("state: [../x]", "state[0]: '../x' "),
    ],
)
def test_each_fault_of_environment_restart_and_results_is_reported(tmp_path, line, fault):
    (found,) = faults(tmp_path, f"name: x\ninstances: [{{id: a}}]\n{line}\n")
    assert found.startswith(f"x.yml: {fault}")


@pytest.mark.parametrize("by", [("a", "a"), ("a", "b")])
def test_a_pair_cannot_be_together_and_apart(tmp_path, by):
    other = {"a": "b", "b": "a"}
    wishes = {"a": "", "b": ""}
    wishes[by[0]] += f", affinity: [{other[by[0]]}]"
    wishes[by[1]] += f", anti_affinity: [{other[by[1]]}]"
    found = instance_faults(tmp_path, *(f"{{id: {id}, ram_gb: 1{wish}}}" for id, wish in wishes.items()))
    assert found == ["x.yml: instances.a: a and b are in both affinity and anti_affinity; keep one"]


def test_an_observed_instance_is_isolated_and_observes_nobody(tmp_path):
    """So observers in a circle, or in a row, cannot be."""
    given = "given, but {} observes it; an observed instance reaches nobody: leave one of the two out"
    assert instance_faults(tmp_path, "{id: a, ram_gb: 1, observes: [b]}", "{id: b, ram_gb: 1, observes: [a]}") == [
        f"x.yml: instances.b.observes: {given.format('a')}",
        f"x.yml: instances.a.observes: {given.format('b')}",
    ]
    row = ("{id: a, ram_gb: 1, observes: [b]}", "{id: b, ram_gb: 1, observes: [c]}", "{id: c, ram_gb: 1}")
    assert instance_faults(tmp_path, *row) == [f"x.yml: instances.b.observes: {given.format('a')}"]
    for network in ("peers", "open"):
        subject = f"{{id: a, ram_gb: 1, network: {network}}}"
        problem = f"{network}, but b observes it; an observed instance is isolated: leave network out"
        assert instance_faults(tmp_path, subject, "{id: b, ram_gb: 1, observes: [a]}") == [
            f"x.yml: instances.a.network: {problem}"
        ]


@pytest.mark.parametrize("network", ["isolated", "peers", "open"])
def test_an_observer_may_have_any_network_and_several_subjects(tmp_path, network):
    subjects = "{id: a, ram_gb: 1}, {id: b, ram_gb: 1, network: isolated}"
    observers = f"{{id: c, ram_gb: 1, network: {network}, observes: [a, b]}}, {{id: d, ram_gb: 1, observes: [a]}}"
    experiment = load(tmp_path, f"name: x\ninstances: [{subjects}, {observers}]")
    assert experiment.observers == {"a": ["c", "d"], "b": ["c"]}


def test_ids_given_twice_are_reported(tmp_path):
    assert instance_faults(tmp_path, "{id: a, ram_gb: 1}", "{id: a, ram_gb: 1}") == [
        "x.yml: instances.a: 2 instances have this id; give each its own"
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "None is not an object; give an experiment: a name and its instances"),
        ("- 1", "[1] is not an object"),
        ("name: x\ninstances: []", "instances: it is empty; give a list of at least one instance"),
        ("name: X\ninstances: [{id: a, ram_gb: 1}]", "name: 'X' does not have the right form"),
        ("name: x\ninstances: [{id: a, ram_gb: 1}]\ncommand: ls", "command: 'ls' is not a list"),
        (
            "name: x\ninstances: [{id: a, ram_gb: 1}]\nworkload: {x: [.inf]}",
            "workload.x[0]: inf is not a finite number",
        ),
        ("name: x\ninstances: [{id: a, ram_gb: 1}]\nworkload: {1: x}", "workload.1: the key 1 is not text"),
        ("name: x\ninstances: [{id: a, ram_gb: 1}]\nworkload: {s: !!set {x}}", "workload.s: {'x'} is not text"),
        ("name: x\nname: y\ninstances: [{id: a, ram_gb: 1}]", "name: line 2: this key is given twice, first in line 1"),
        ("a: [", "line 2: not valid YAML"),
        ("a: 1\n---\nb: 1", "line 2: not valid YAML"),
        ("!!python/object:os.system ls", "line 1: not valid YAML: could not determine a constructor"),
        ("\0", "unacceptable character"),
        ("[" * 500, "nested deeper than 100 levels"),  # far more is refused by newer versions of libyaml themselves
        ("workload: &a {x: *a}", "nested deeper than 100 levels"),
    ],
)
def test_each_fault_of_a_file_is_reported(tmp_path, text, fault):
    found = faults(tmp_path, text)
    assert len(found) == 1
    assert found[0].startswith(f"x.yml: {fault}")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"name": "x", "name": "y", "instances": [{"id": "a", "ram_gb": 1}]}', "name: this key is given twice"),
        ('{"name": "x", "instances": [{"id": "a", "ram_gb": NaN}]}', "instances.a.ram_gb: nan is not a finite number"),
        ('{"name": ', "Expecting value"),
        ("[" * 100_000, "nested deeper than 100 levels"),
    ],
)
def test_json_is_read_as_strictly(tmp_path, text, fault):
    found = faults(tmp_path, text, "x.json")
    assert len(found) == 1
    assert found[0].startswith(f"x.json: {fault}")


def test_aliases_that_unfold_without_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("placement.adapters.experiment.MAX_VALUES", 10_000)
    rows = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    assert faults(tmp_path, "\n".join(rows)) == ["x.yml: more than 10000 values once its aliases are written out"]


def test_a_file_that_is_too_large_or_unreadable_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("placement.adapters.experiment.MAX_BYTES", 2**20)
    assert faults(tmp_path, "#" * (2**20 + 1)) == ["x.yml: larger than 1 MiB"]
    with pytest.raises(BadInput, match=r"no.yml: cannot be read: No such file"):
        load_experiment(tmp_path / "no.yml")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "experiments"
    folder.mkdir()
    for name in ("split_brain.yml", "panopticon.json", "notes.txt"):
        (folder / name).touch()
    return folder


def test_an_experiment_is_found_by_name_or_path(folder):
    assert find_experiment("split_brain", folder) == folder / "split_brain.yml"
    assert find_experiment("panopticon", folder) == folder / "panopticon.json"
    assert find_experiment("split_brain.yml", folder) == folder / "split_brain.yml"
    assert find_experiment(str(folder / "split_brain.yml"), "elsewhere") == folder / "split_brain.yml"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("split_brian", "did you mean 'split_brain'?"),
        ("zzz", "there is panopticon, split_brain"),
        ("notes", "no experiment is named 'notes'"),
        ("", "none is given; there is panopticon, split_brain"),
        ("no/such.yml", "no such file"),
        ("../secret", "neither a name nor a path"),
        ("/etc/passwd", "neither a name nor a path"),
        ("..", "neither a name nor a path"),
        ("~nobody_here/x.yml", "no such file"),
        ("x" * 5000, "no experiment is named"),
        ("a\0b", "neither a name nor a path"),
    ],
)
def test_a_name_that_matches_nothing_is_reported_with_what_there_is(folder, name, expected):
    with pytest.raises(BadInput) as bad:
        find_experiment(name, folder)
    assert expected in str(bad.value)


@pytest.mark.parametrize(
    ("given", "pins"),
    [
        ("a:jetson,b:rpi1", {"a": "jetson", "b": "rpi1"}),
        (" a : jetson , ", {"a": "jetson"}),
        (["a:jetson", "b:rpi1,c:host"], {"a": "jetson", "b": "rpi1", "c": "host"}),
        ({"a": "jetson"}, {"a": "jetson"}),
        ("", {}),
        (None, {}),
        ({}, {}),
        ([], {}),
        ("a:x,a:x", {"a": "x"}),
        ("a:fd00::11", {"a": "fd00::11"}),
    ],
)
def test_pins_are_parsed(given, pins):
    assert parse_pins(given) == pins


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a", "placement: 'a' is not instance:node"),
        ("a:", "placement: 'a:' is not instance:node"),
        ({"a": 1}, "placement: 'a:1' is not instance:node"),
        (5, "placement: '5' is not instance:node"),
        ([5], "placement: '5' is not instance:node"),
        ("a:x,a:y", "placement: a: pinned to x and to y; give one"),
    ],
)
def test_pins_that_are_none_are_refused(given, expected):
    with pytest.raises(BadInput) as bad:
        parse_pins(given)
    assert str(bad.value).startswith(expected)


def test_names_of_nodes_and_instances_that_do_not_exist_are_reported_together(tmp_path):
    experiment = load(tmp_path, "name: x\ninstances: [{id: a, ram_gb: 1, preferred_node: rpi}, {id: b, ram_gb: 1}]")
    found = [str(fault) for fault in check(experiment, [cpu("rpi1"), cpu("host")], {"b": "hots", "c": "host"})]
    assert found == [
        f"{tmp_path}/x.yml: instances.a.preferred_node: no node is named 'rpi'; did you mean 'rpi1'?",
        "placement: b:hots: no node is named 'hots'; did you mean 'host'?",
        "placement: c:host: no instance is named 'c'; there is a, b",
    ]
    assert check(experiment, [cpu("rpi")], {}) == []
