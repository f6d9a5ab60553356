"""A saved plan: the same text for the same input, applied as it is, or refused with all that has changed."""

import json
from dataclasses import replace

import pytest
import yaml

from fleet.base.errors import PlanChanged, PlanFileError
from fleet.intake.saved_plan import SavedPlan, applied, changes, depends_on, read_plan, reference
from fleet.record.manifest import canonical_sha256
from placement import Node, load_experiment, place_designed

PORTS = (9000, 9100)
JETSON = Node("jetson", "jetson_orin", ram_gb=64, reserved_ram_gb=8, gpu=True, gpu_memory_gb=64, max_instances=4)
RPI1 = Node("rpi1", "raspberry_pi", ram_gb=8, reserved_ram_gb=1)
RPI2 = replace(RPI1, name="rpi2")
NODES = [JETSON, RPI1, RPI2]
SHA, OTHER = "a" * 64, "b" * 64
FILE = {
    "name": "two",
    "workload": {"rounds": 3},
    "instances": [{"id": "a", "ram_gb": 8, "gpu": "required"}, {"id": "b", "ram_gb": 2, "config": {"identity": "B"}}],
}


class World:
    """All that a plan depends on, and a plan saved on it."""

    def __init__(self, folder, file=FILE, nodes=NODES, pins=None):
        self.path = folder / "two.yml"
        self.path.write_text(yaml.safe_dump(file, sort_keys=False))
        self.experiment, self.nodes, self.pins = load_experiment(self.path), nodes, pins or {}
        self.models, self.code, self.command, self.ports = {"a": SHA, "b": SHA}, SHA, [], PORTS

    def now(self):
        return depends_on(self.experiment, self.nodes, self.ports, self.models, self.code, self.command)

    def saved(self) -> SavedPlan:
        plan = place_designed(self.experiment.design, self.nodes, self.experiment.instances, pins=self.pins)
        return SavedPlan("two", self.pins, self.now(), plan.to_json())

    def with_file(self, change):
        document = json.loads(json.dumps(FILE))
        change(document)
        self.path.write_text(yaml.safe_dump(document, sort_keys=False))
        self.experiment = load_experiment(self.path)

    def apply(self, saved):
        return applied(saved, self.now(), self.experiment, self.nodes, self.ports, "plan.json")


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


@pytest.fixture
def file(world, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(world.saved().text)
    return path


def changed(world, saved) -> list[str]:
    """The changes for which the plan is refused, each of them in the message."""
    with pytest.raises(PlanChanged) as refused:
        world.apply(saved)
    assert str(refused.value).splitlines()[1:] == refused.value.changes
    return refused.value.changes


def test_the_same_input_is_the_same_text_byte_for_byte(world, tmp_path):
    shuffled = World(tmp_path, nodes=NODES)
    assert world.saved().text == shuffled.saved().text


def test_what_is_read_is_what_was_saved_and_the_plan_is_the_same(world, file):
    assert read_plan(file) == json_of(world.saved())
    assert world.apply(read_plan(file)).to_json() == world.saved().plan


def json_of(saved: SavedPlan) -> SavedPlan:
    return SavedPlan(**json.loads(json.dumps(saved.to_json())))


def test_pins_and_the_terms_of_a_design_are_part_of_it(tmp_path):
    design = {"randomize": True, "counterbalance": ["b"]}
    file = {**FILE, "instances": [FILE["instances"][1], {"id": "c", "ram_gb": 2}], "design": design}
    world = World(tmp_path, file, pins={"c": "rpi2"})
    world.models = {"b": SHA, "c": SHA}
    saved = json_of(world.saved())
    plan = world.apply(saved)
    assert plan.assignments["c"] == "rpi2"
    assert plan.seed == saved.plan["seed"]
    assert plan.counterbalance["repeat"] == 1


@pytest.mark.parametrize(
    ("node", "change", "expected"),
    [
        ("rpi1", {"status": "UNAVAILABLE"}, ["rpi1: status was HEALTHY, is UNAVAILABLE"]),
        (
            "rpi1",
            {"status": "UNAVAILABLE", "ram_gb": 0, "reserved_ram_gb": 0},
            ["rpi1: status was HEALTHY, is UNAVAILABLE"],
        ),
        ("jetson", {"status": "DEGRADED"}, ["jetson: status was HEALTHY, is DEGRADED"]),
        (
            "jetson",
            {"allocated_ram_gb": 8, "current_instances": 1, "used_ports": {9001, 9000}},
            [
                "jetson: current_instances was 0, is 1",
                "jetson: allocated_ram_gb was 0, is 8",
                "jetson: used_ports was none, is 9000, 9001",
            ],
        ),
        ("rpi2", {"ram_gb": 16}, ["rpi2: ram_gb was 8, is 16"]),
        ("rpi2", {"gpu": True}, ["rpi2: gpu was false, is true"]),
        (
            "rpi2",
            {"max_instances": 2, "cpu_cores": 4},
            ["rpi2: cpu_cores was 1, is 4", "rpi2: max_instances was 1, is 2"],
        ),
    ],
)
def test_a_node_that_changed_is_named_with_before_and_after(world, node, change, expected):
    saved = world.saved()
    world.nodes = [replace(one, **change) if one.name == node else one for one in NODES]
    assert changed(world, saved) == expected


def test_a_node_that_came_or_went_is_named(world):
    saved = world.saved()
    world.nodes = [JETSON, RPI1, replace(RPI1, name="rpi3")]
    assert changed(world, saved) == ["rpi2: was a node, is none any more", "rpi3: was no node, is one"]


def test_a_measured_size_that_differs_by_a_breath_is_no_change(tmp_path):
    world = World(tmp_path, nodes=[replace(JETSON, ram_gb=61.30211), RPI1, RPI2])
    saved = world.saved()
    world.nodes = [replace(JETSON, ram_gb=61.30198), RPI1, RPI2]
    assert world.apply(saved).assignments == saved.plan["assignments"]


def test_of_a_node_that_does_not_answer_only_that_counts(tmp_path):
    silent = replace(RPI2, status="UNAVAILABLE")
    world = World(tmp_path, nodes=[JETSON, RPI1, silent])
    saved = world.saved()
    world.nodes = [JETSON, RPI1, replace(silent, ram_gb=1, reserved_ram_gb=0)]
    assert world.apply(saved).assignments == {"a": "jetson", "b": "rpi1"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: d["instances"][0].update(ram_gb=9), ["experiment: instances.a.ram_gb was 8, is 9"]),
        (lambda d: d["instances"][1].update(preferred_node="rpi2"),
         ["experiment: instances.b.preferred_node was missing, is rpi2"]),
        (lambda d: d["instances"][1]["config"].update(identity="C"),
         ["experiment: instances.b.config.identity was B, is C"]),
        (lambda d: d["workload"].update(rounds=4), ["experiment: workload.rounds was 3, is 4"]),
        (lambda d: d["instances"].reverse(), ["experiment: order was a, b, is b, a"]),
        (lambda d: d.update(design={"randomize": True}), ['experiment: design was missing, is {"randomize": true}']),
    ],
)  # fmt: skip
def test_an_experiment_that_changed_is_named_key_by_key(world, change, expected):
    saved = world.saved()
    world.with_file(change)
    assert changed(world, saved) == expected


def test_an_instance_that_is_new_is_named(world):
    saved = world.saved()
    world.with_file(lambda document: document["instances"].append({"id": "c", "ram_gb": 1}))
    world.models = {**world.models, "c": SHA}
    assert changed(world, saved) == [
        "experiment: order was a, b, is a, b, c",
        'experiment: instances.c was missing, is {"id": "c", "ram_gb": 1}',
    ]


def test_comments_and_the_order_of_keys_in_the_file_do_not_matter(world):
    saved = world.saved()
    text = yaml.safe_dump(dict(reversed(FILE.items())), sort_keys=False)
    world.path.write_text(f"# a comment\n{text}")
    world.experiment = load_experiment(world.path)
    assert world.apply(saved).assignments == saved.plan["assignments"]


def test_everything_that_changed_is_named_at_once(world):
    saved = world.saved()
    world.with_file(lambda document: document["instances"][0].update(ram_gb=9))
    world.nodes = [JETSON, replace(RPI1, status="MAINTENANCE"), RPI2]
    world.models, world.code, world.command, world.ports = {"a": OTHER, "b": SHA}, OTHER, ["run"], (9000, 9200)
    assert changed(world, saved) == [
        "rpi1: status was HEALTHY, is MAINTENANCE",
        "ports was 9000, 9100, is 9000, 9200",
        "experiment: instances.a.ram_gb was 8, is 9",
        "model of a: sha256 was aaaaaaaaaaaa..., is bbbbbbbbbbbb...",
        "code: hash was aaaaaaaaaaaa..., is bbbbbbbbbbbb...",
        "code: command was none, is run",
    ]


def test_nothing_that_changed_is_nothing(world):
    assert changes(world.now(), world.now()) == []


# files that are no plan


def refusal(path) -> str:
    with pytest.raises(PlanFileError) as refused:
        read_plan(path)
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("\xff\xfe", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a plan"),
        ('{"a": 1}', "not a plan"),
        (
            '{"strategy": "optimal", "assignments": {"a": "jetson"}}',
            "a bare plan, which does not say what it depended on",
        ),
        ('{"format": "jarfleet plan"}', "a plan of format None"),
        ('{"format": "jarfleet plan", "version": 2}', "a plan of format 2, and this Jarfleet reads up to 1"),
        ('{"format": "jarfleet plan", "version": 1}', "edited since it was saved"),
    ],
)
def test_a_file_that_is_no_plan_is_refused_with_what_it_is(tmp_path, text, expected):
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="latin-1")
    assert expected in refusal(path)


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path):
    assert "cannot be read" in refusal(tmp_path / "no.json")
    assert "cannot be read" in refusal(tmp_path)


def edited(file, change, mend=False):
    document = json.loads(file.read_text())
    change(document)
    if mend:
        document["sha256"] = canonical_sha256({key: value for key, value in document.items() if key != "sha256"})
    file.write_text(json.dumps(document))
    return file


def test_an_edited_assignment_is_refused_and_named(file):
    message = refusal(edited(file, lambda document: document["plan"]["assignments"].update(b="rpi2")))
    assert "edited since it was saved" in message
    assert "assignments.b is rpi2, but the plan was made for rpi1" in message


def test_a_plan_that_breaks_a_constraint_is_refused_whatever_its_checksum_says(world, file):
    saved = read_plan(edited(file, lambda document: document["plan"]["assignments"].update(a="rpi1"), mend=True))
    with pytest.raises(PlanFileError) as refused:
        world.apply(saved)
    assert "assignments.a: rpi1 is refused: ram: needs 8.0 GB, has 7.0 free; gpu: required, has none" in str(
        refused.value
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda plan: plan["assignments"].update(a="mars"), "assignments.a: there is no node mars"),
        (lambda plan: plan["assignments"].pop("a"), "assignments: not of the experiment's instances"),
        (lambda plan: plan["ports"]["a"].update(peer=80), "ports.a: are "),
        (lambda plan: plan.pop("score"), "not a plan"),
        (lambda plan: plan.update(nodes=[]), "not a plan"),
    ],
)
def test_a_forged_plan_is_refused(world, file, change, expected):
    saved = read_plan(edited(file, lambda document: change(document["plan"]), mend=True))
    with pytest.raises(PlanFileError, match=expected):
        world.apply(saved)


def test_a_key_that_is_missing_is_refused(file):
    assert "'pins' is missing" in refusal(edited(file, lambda document: document.pop("pins"), mend=True))


def test_an_experiment_is_named_so_that_it_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.yml"
    assert reference("split_brain", path) == "split_brain"
    assert reference("x.yml", path.relative_to(tmp_path)) == str(path)
